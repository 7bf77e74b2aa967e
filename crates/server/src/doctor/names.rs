//! Whether programs on this machine find the URLs of services, which have names below `localhost`.

use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;

use sandwire_isolate::Check;
use sandwire_protocol::limits::DOCTOR_DEADLINE;

use super::judged;

const NAME: &str = "probe.localhost";

/// Asks the C library, as Node, Python and most programs do. Leaves a thread behind if it does not answer.
pub(super) fn below_localhost() -> Check {
    let (found, answer) = mpsc::sync_channel(1);
    let asked = thread::Builder::new().spawn(move || {
        let _nobody_waits =
            found.send((NAME, 0).to_socket_addrs().map(|all| all.map(|one| one.ip()).collect()));
    });
    let late = |_| Err(io::Error::from(io::ErrorKind::TimedOut));
    judge(asked.and_then(|_| answer.recv_timeout(DOCTOR_DEADLINE).unwrap_or_else(late)))
}

fn judge(found: io::Result<Vec<IpAddr>>) -> Check {
    let (local, said) = match found {
        Ok(all) if all.is_empty() => (false, "no address".to_owned()),
        Ok(all) => {
            let local = all.iter().all(|one| one.to_canonical().is_loopback());
            (local, all.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", "))
        }
        Err(error) => (false, error.to_string()),
    };
    let remedy = "only for service URLs: install libnss-myhostname (nss-myhostname), or use a browser or curl, which \
         take such names for this machine themselves";
    judged("names below localhost", format!("{NAME}: {said}"), (!local).then_some(remedy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandwire_isolate::Verdict;

    #[test]
    fn only_this_machine_will_do() {
        for (addresses, verdict) in [
            (&["127.0.0.1", "::1"][..], Verdict::Ok),
            (&["127.0.0.2", "::ffff:127.0.0.1"], Verdict::Ok),
            (&["127.0.0.1", "203.0.113.7"], Verdict::Degraded),
            (&[], Verdict::Degraded),
        ] {
            let check = judge(Ok(addresses.iter().map(|one| one.parse().unwrap()).collect()));
            assert_eq!((check.verdict, check.required), (verdict, false), "{addresses:?}");
            assert_eq!(check.remedy.is_none(), verdict == Verdict::Ok, "{addresses:?}");
        }
    }

    #[test]
    fn a_name_that_is_not_found_says_what_to_do() {
        let check = judge(Err(io::Error::other("Name or service not known")));
        assert_eq!((check.verdict, check.required), (Verdict::Degraded, false));
        assert!(check.detail.contains("not known") && check.remedy.unwrap().contains("libnss-myhostname"));
    }
}
