//! Sending and receiving wire documents, with descriptors, over a SEQPACKET socket.
//!
//! A packet starts with one byte that says where the document is: in the rest of the packet, or in a memfd that
//! is the first descriptor.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::wire::{DOCUMENT_MAX, FDS_MAX, INLINE_MAX};

const INLINE: u8 = 0;
const IN_MEMFD: u8 = 1;

/// Room for the ancillary header and [`FDS_MAX`] descriptors, in units that keep it aligned.
const CONTROL_WORDS: usize = (FDS_MAX * size_of::<RawFd>()).div_ceil(8) + 4;

/// Sends one document and descriptors. The receiver gets duplicates; the caller keeps its own.
///
/// # Errors
/// `WouldBlock` on a non-blocking socket whose peer does not read; `InvalidInput` for a document over
/// [`DOCUMENT_MAX`] or more than [`FDS_MAX`] descriptors; `BrokenPipe` when the peer is gone.
pub fn send<T: Serialize>(socket: BorrowedFd<'_>, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut packet = vec![INLINE];
    serde_json::to_writer(&mut packet, message)?;
    if packet.len() > DOCUMENT_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "message is too large"));
    }
    let mut raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let memfd;
    if packet.len() > INLINE_MAX {
        memfd = document_memfd(packet.get(1..).unwrap_or_default())?;
        raw.insert(0, memfd.as_raw_fd());
        packet = vec![IN_MEMFD];
    }
    if raw.len() > FDS_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
    }
    send_packet(socket, &packet, &raw)
}

/// Receives one document and its descriptors, which are close-on-exec. `None` when the peer is gone.
///
/// A receiver that has as many descriptors open as it may gets the document without any: that is the matter of whoever
/// waits for them, and not of the connection.
///
/// # Errors
/// `WouldBlock` on a non-blocking socket without a packet; `InvalidData` for what is not a document of type `T`.
pub fn recv<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut packet = vec![0; INLINE_MAX + 1];
    let (length, mut fds) = recv_packet(socket, &mut packet)?;
    packet.truncate(length);
    let document = match packet.split_first() {
        None => return Ok(None),
        Some((&INLINE, rest)) => decode(rest)?,
        Some((&IN_MEMFD, _)) if !fds.is_empty() => decode(&read_memfd(fds.remove(0))?)?,
        Some(_) => return Err(io::Error::new(io::ErrorKind::InvalidData, "unknown packet kind")),
    };
    Ok(Some((document, fds)))
}

fn decode<T: DeserializeOwned>(document: &[u8]) -> io::Result<T> {
    serde_json::from_slice(document).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn document_memfd(document: &[u8]) -> io::Result<File> {
    // SAFETY: the name is a NUL-terminated literal.
    let fd = unsafe { libc::memfd_create(c"sandwire-message".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    let mut file = unsafe { File::from_raw_fd(fd) };
    file.write_all(document)?;
    Ok(file)
}

fn read_memfd(fd: OwnedFd) -> io::Result<Vec<u8>> {
    let mut file = File::from(fd);
    // Anything else could block the reader for ever.
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a document that is not in memory"));
    }
    file.rewind()?;
    let mut document = Vec::new();
    file.take(DOCUMENT_MAX as u64).read_to_end(&mut document)?;
    Ok(document)
}

fn send_packet(socket: BorrowedFd<'_>, packet: &[u8], fds: &[RawFd]) -> io::Result<()> {
    let mut control = [0u64; CONTROL_WORDS];
    let mut iov = libc::iovec { iov_base: packet.as_ptr().cast_mut().cast(), iov_len: packet.len() };
    // SAFETY: an all-zero msghdr is valid.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut iov;
    header.msg_iovlen = 1;
    if !fds.is_empty() {
        let payload = size_of_val(fds) as u32;
        header.msg_control = control.as_mut_ptr().cast();
        // SAFETY: pure arithmetic; `control` has room for FDS_MAX descriptors, which the caller checked.
        header.msg_controllen = unsafe { libc::CMSG_SPACE(payload) } as usize;
        // SAFETY: msg_control points to zeroed, aligned memory of msg_controllen bytes, so the first header
        // exists and its data has room for all descriptors.
        unsafe {
            let first = libc::CMSG_FIRSTHDR(&raw const header);
            (*first).cmsg_level = libc::SOL_SOCKET;
            (*first).cmsg_type = libc::SCM_RIGHTS;
            (*first).cmsg_len = libc::CMSG_LEN(payload) as usize;
            std::ptr::copy_nonoverlapping(fds.as_ptr(), libc::CMSG_DATA(first).cast::<RawFd>(), fds.len());
        }
    }
    retry(|| {
        // SAFETY: the header and what it points to live until the call returns.
        unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL) }
    })
    .map(|_| ())
}

fn recv_packet(socket: BorrowedFd<'_>, packet: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut control = [MaybeUninit::<u64>::zeroed(); CONTROL_WORDS];
    let mut iov = libc::iovec { iov_base: packet.as_mut_ptr().cast(), iov_len: packet.len() };
    // SAFETY: an all-zero msghdr is valid.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut iov;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control);
    let length = retry(|| {
        // SAFETY: the header points to live buffers of the stated sizes.
        unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC) }
    })?;
    let fds = received_fds(&header);
    if header.msg_flags & libc::MSG_TRUNC != 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "packet was cut"));
    }
    // Some of them would be taken for others.
    let all_came = header.msg_flags & libc::MSG_CTRUNC == 0;
    Ok((length, if all_came { fds } else { Vec::new() }))
}

fn received_fds(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: the kernel filled msg_control and msg_controllen; CMSG_NXTHDR stays inside them, each header's
    // cmsg_len bounds its data, and every descriptor there is new and now ours.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(header);
        while !next.is_null() {
            if (*next).cmsg_level == libc::SOL_SOCKET && (*next).cmsg_type == libc::SCM_RIGHTS {
                let count = ((*next).cmsg_len - libc::CMSG_LEN(0) as usize) / size_of::<RawFd>();
                let data = libc::CMSG_DATA(next).cast::<RawFd>();
                fds.extend((0..count).map(|i| OwnedFd::from_raw_fd(data.add(i).read_unaligned())));
            }
            next = libc::CMSG_NXTHDR(header, next);
        }
    }
    fds
}

fn retry(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        match usize::try_from(call()) {
            Ok(length) => return Ok(length),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Request;
    use std::os::fd::AsFd;

    fn pair() -> (OwnedFd, OwnedFd) {
        let mut fds = [0; 2];
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
        // SAFETY: `fds` has room for the two descriptors, which are new.
        unsafe {
            assert_eq!(libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()), 0);
            (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1]))
        }
    }

    fn open(path: String) -> Request {
        Request::OpenFile { req: 7, path }
    }

    #[test]
    fn documents_and_descriptors_arrive() {
        let (a, b) = pair();
        let file = File::open("/dev/null").unwrap();
        send(a.as_fd(), &open("x".into()), &[file.as_fd(), a.as_fd()]).unwrap();
        let (request, fds): (Request, _) = recv(b.as_fd()).unwrap().unwrap();
        assert_eq!(request, open("x".into()));
        assert_eq!(fds.len(), 2);
    }

    /// Sends a packet with more descriptors than the receiver has room for, which looks to it as its limit does.
    fn send_too_many(socket: BorrowedFd<'_>, packet: &[u8]) {
        const MANY: usize = 200;
        let file = File::open("/dev/null").unwrap();
        let mut control = [0u64; MANY];
        let mut iov = libc::iovec { iov_base: packet.as_ptr().cast_mut().cast(), iov_len: packet.len() };
        // SAFETY: all-zero is a valid msghdr; `control` is aligned and has room for a header and the descriptors.
        let sent = unsafe {
            let mut header: libc::msghdr = std::mem::zeroed();
            (header.msg_iov, header.msg_iovlen) = (&raw mut iov, 1);
            let payload = (MANY * size_of::<RawFd>()) as u32;
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = libc::CMSG_SPACE(payload) as usize;
            let first = libc::CMSG_FIRSTHDR(&raw const header);
            (*first).cmsg_level = libc::SOL_SOCKET;
            (*first).cmsg_type = libc::SCM_RIGHTS;
            (*first).cmsg_len = libc::CMSG_LEN(payload) as usize;
            let data = libc::CMSG_DATA(first).cast::<RawFd>();
            (0..MANY).for_each(|i| data.add(i).write_unaligned(file.as_raw_fd()));
            libc::sendmsg(socket.as_raw_fd(), &raw const header, 0)
        };
        assert_eq!(usize::try_from(sent).unwrap(), packet.len());
    }

    #[test]
    fn a_document_arrives_without_the_descriptors_that_there_is_no_room_for() {
        let (a, b) = pair();
        let document = serde_json::to_vec(&open("x".into())).unwrap();
        send_too_many(a.as_fd(), &[&[INLINE][..], &document].concat());
        let (request, fds): (Request, _) = recv(b.as_fd()).unwrap().unwrap();
        assert_eq!((request, fds.len()), (open("x".into()), 0));
        send_too_many(a.as_fd(), &[IN_MEMFD]);
        assert_eq!(recv::<Request>(b.as_fd()).unwrap_err().kind(), io::ErrorKind::InvalidData);
        send(a.as_fd(), &open("y".into()), &[]).unwrap();
        assert_eq!(recv::<Request>(b.as_fd()).unwrap().unwrap().0, open("y".into()));
    }

    #[test]
    fn large_documents_travel_beside_the_packet() {
        let (a, b) = pair();
        let file = File::open("/dev/null").unwrap();
        let request = open("x".repeat(3 * 1024 * 1024));
        send(a.as_fd(), &request, &[file.as_fd()]).unwrap();
        let (received, fds): (Request, _) = recv(b.as_fd()).unwrap().unwrap();
        assert_eq!(received, request);
        assert_eq!(fds.len(), 1);
    }

    #[test]
    fn too_large_is_refused() {
        let (a, _b) = pair();
        let error = send(a.as_fd(), &open("x".repeat(DOCUMENT_MAX + 1)), &[]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_gone_peer_is_the_end() {
        let (a, b) = pair();
        drop(a);
        assert!(recv::<Request>(b.as_fd()).unwrap().is_none());
        assert_eq!(send(b.as_fd(), &open("x".into()), &[]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_document_that_could_block_is_refused() {
        let (a, b) = pair();
        let (reader, _writer) = io::pipe().unwrap();
        send_packet(a.as_fd(), &[IN_MEMFD], &[reader.as_raw_fd()]).unwrap();
        assert_eq!(recv::<Request>(b.as_fd()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn garbage_is_an_error() {
        let (a, b) = pair();
        for packet in [&[INLINE, b'{'][..], &[IN_MEMFD], &[9, 9]] {
            send_packet(a.as_fd(), packet, &[]).unwrap();
            assert_eq!(recv::<Request>(b.as_fd()).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }
}
