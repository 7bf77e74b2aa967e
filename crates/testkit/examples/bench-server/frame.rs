//! Just enough of RFC 6455: unmasked frames to clients, masked ones from them.

/// First byte of a whole text message.
pub(crate) const TEXT: u8 = 0x81;
/// First byte of a whole binary message.
pub(crate) const BINARY: u8 = 0x82;
/// A close frame with code 1000.
pub(crate) const CLOSE: [u8; 4] = [0x88, 2, 0x03, 0xE8];

const MASKED: u8 = 0x80;

/// Adds a message made of `parts`.
pub(crate) fn push(buffer: &mut Vec<u8>, first: u8, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    push_head(buffer, first, 0, length);
    for part in parts {
        buffer.extend_from_slice(part);
    }
}

/// Adds a message as a client sends it, with a mask of zeros.
pub(crate) fn push_masked(buffer: &mut Vec<u8>, text: &str) {
    push_head(buffer, TEXT, MASKED, text.len());
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(text.as_bytes());
}

fn push_head(buffer: &mut Vec<u8>, first: u8, masked: u8, length: usize) {
    buffer.push(first);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length @ ..=125), _) => buffer.push(masked | length),
        (_, Ok(length)) => {
            buffer.push(masked | 126);
            buffer.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            buffer.push(masked | 127);
            buffer.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// Takes the client's frame at the start of `bytes`: its payload, unmasked; `None` while it is not there in full.
pub(crate) fn take(bytes: &mut Vec<u8>) -> Option<Vec<u8>> {
    let (payload, rest) = unmask(bytes)?;
    let taken = bytes.len() - rest;
    bytes.drain(..taken);
    Some(payload)
}

/// The first frame's payload, and how many bytes follow it.
fn unmask(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (_, rest) = bytes.split_first()?;
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match length & 127 {
        126 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        127 => {
            let (length, rest) = rest.split_first_chunk::<8>()?;
            (usize::try_from(u64::from_be_bytes(*length)).ok()?, rest)
        }
        length => (usize::from(length), rest),
    };
    let (mask, rest) = rest.split_first_chunk::<4>()?;
    let (payload, rest) = rest.split_at_checked(length)?;
    Some((payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect(), rest.len()))
}
