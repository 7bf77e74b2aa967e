//! The commands of a sandbox: run, found again, and refused where an earlier server lost them.

use std::sync::Arc;

use sandwire_isolate::wire::Account;
use sandwire_protocol::{CommandSpec, ErrorType};
use uuid::Uuid;

use super::Sandbox;
use crate::engine::attachment::{Attachment, View};
use crate::engine::command::{Command, End};
use crate::engine::driver;
use crate::engine::fault::Fault;
use crate::engine::launch::{Defaults, launch};
use crate::engine::stream::Form;

impl Sandbox {
    /// Runs a command, or attaches to the one of the same id from its first byte on, in this form.
    ///
    /// # Errors
    /// The request makes no sense, the id has expired or belongs to a lost command, or the sandbox is not ready. That
    /// the process could not be started is learnt from the attachment.
    pub fn execute(self: &Arc<Self>, spec: &CommandSpec, form: Form) -> Result<Attachment, Fault> {
        let link = self.link()?;
        let id = spec.command_id.clone().unwrap_or_else(|| Uuid::now_v7().to_string());
        self.refuse_lost(&id)?;
        let settings = self.settings();
        let defaults = Defaults { run_config: &settings.run_config, env_vars: &settings.env_vars };
        let launch = launch(spec, &defaults, link.number(), self.resources.backend.isolation().ids)?;
        let (command, fresh) = self.commands.get_or_create(id, spec)?;
        let attachment = command.attach(View::all(form)).ok_or_else(too_many)?;
        if fresh {
            if let Err(error) = self.journal.note(command.id()) {
                let message = format!("the command can't be noted: {error}");
                let fault = Fault::new(ErrorType::InternalError, message);
                // Who asked for the same one meanwhile is attached to it.
                command.finish(End::Failed(fault.clone()));
                self.commands.forget(command.id());
                return Err(fault);
            }
            let sandbox = Arc::clone(self);
            self.resources.tasks.spawn(async move {
                let owner = |account: &Account| sandbox.owner(account.uid, account.gid);
                if !driver::drive(&command, &link, launch, owner).await {
                    sandbox.commands.forget(command.id());
                }
            });
        }
        Ok(attachment)
    }

    /// Attaches to a command.
    ///
    /// # Errors
    /// The id is unknown, expired or lost.
    pub fn reconnect(&self, id: &str, view: View) -> Result<Attachment, Fault> {
        self.command(id)?.attach(view).ok_or_else(too_many)
    }

    /// Its commands, running and remembered, the oldest first.
    pub fn commands(&self) -> Vec<Arc<Command>> {
        self.commands.list()
    }

    /// One of its commands.
    ///
    /// # Errors
    /// The id is unknown, expired or lost.
    pub fn command(&self, id: &str) -> Result<Arc<Command>, Fault> {
        self.refuse_lost(id)?;
        self.commands.get(id)
    }

    /// A command of an earlier server has no result, and must not run again.
    fn refuse_lost(&self, id: &str) -> Result<(), Fault> {
        match self.journal.is_lost(id) {
            Ok(false) => Ok(()),
            Ok(true) => Err(Fault::command(format!(
                "command {id:?} is lost: the server ended while it ran or before its result was fetched"
            ))),
            Err(error) => Err(Fault::new(
                ErrorType::InternalError,
                format!("the journal of commands can't be read: {error}"),
            )),
        }
    }

    /// Who must own a command's pipes, where that is not the server itself.
    fn owner(&self, uid: u32, gid: u32) -> Option<(u32, u32)> {
        let us = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Some(self.resources.backend.outside_ids(uid, gid)).filter(|owner| *owner != us)
    }
}

fn too_many() -> Fault {
    Fault::command("too many clients are attached to this command")
}
