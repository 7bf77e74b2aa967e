//! The API over a backend that needs no rights: its sandboxes are directories, its commands ordinary processes.
//! What isolation itself promises is tested where namespaces are made.

#[cfg(test)]
mod control;
#[cfg(test)]
mod exec;
#[cfg(test)]
mod extended;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod files;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod links;
#[cfg(test)]
mod lists;
#[cfg(test)]
mod operations;
#[cfg(test)]
mod services;
#[cfg(test)]
mod socket;
#[cfg(test)]
mod sse;
#[cfg(test)]
mod terminal;
#[cfg(test)]
mod updates;
#[cfg(test)]
mod workers;
