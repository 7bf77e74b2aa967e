//! Whole files on the data plane (section 5.3).

use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;

use crate::error::{Resource, data_plane};
use crate::http::{Payload, Request};
use crate::{Call, Client, Error, Target};

/// Limit of one transfer, as the official clients have it.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(60);

impl Client {
    /// A file's content.
    ///
    /// # Errors
    /// Section 3.5; `RESOURCE_NOT_FOUND` for a missing file.
    pub async fn read_file(&self, target: &Target, path: &str, call: &Call) -> Result<Bytes, Error> {
        let mut request = Request::new(Method::GET, target.url("/download")?, TRANSFER_TIMEOUT);
        let query = [("path", path)];
        request.query = &query;
        let resource = Resource { sandbox: &target.name, path: Some(path) };
        self.send(&request, call).await?.map_err(|refusal| data_plane(&refusal, resource))
    }

    /// Replaces a file's content, making the file if there is none.
    ///
    /// # Errors
    /// Section 3.5.
    pub async fn write_file(
        &self,
        target: &Target,
        path: &str,
        data: Bytes,
        call: &Call,
    ) -> Result<(), Error> {
        let mut request = Request::new(Method::POST, target.url("/upload")?, TRANSFER_TIMEOUT);
        let query = [("path", path)];
        request.query = &query;
        request.payload = Payload::File(data);
        // The file is replaced as a whole, so a second time changes nothing.
        request.idempotent = true;
        let resource = Resource { sandbox: &target.name, path: None };
        self.send(&request, call).await?.map_err(|refusal| data_plane(&refusal, resource)).map(drop)
    }
}
