//! Finding files by their paths, and lines in them.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use memchr::memmem::Finder;
use memchr::{memchr, memchr_iter, memrchr};
use rustix::fs::{AtFlags, FileType, OFlags, Stat, fstat, statat};
use sandwire_init::job::{Record, TEXT_MAX};
use sandwire_init::pattern::{Pattern, Progress};
use sandwire_init::wire::Failure;

use super::manage::entry;
use super::report::{Report, Stop};
use super::walk::{Found, Visitor, open_file, vanished, walk};
use crate::failure::from_io;
use crate::files::path::{absolute, open, open_at};

/// What is read of a file at once, bytes; a longer line is searched in pieces.
const BLOCK: usize = 256 * 1024;

/// Reports whatever matches.
pub(super) fn glob(path: &str, pattern: &str, limit: usize, report: &mut Report) -> Result<(), Stop> {
    let pattern = Pattern::new(pattern).map_err(|why| invalid("pattern", &why))?;
    let (base, dir) = start(path, OFlags::DIRECTORY)?;
    let mut glob = Glob { base, pattern: &pattern, left: limit, report };
    walk(dir.into(), &pattern.start(), &mut glob)
}

/// Reports lines that contain `pattern`.
pub(super) fn grep(
    path: &str,
    pattern: &str,
    glob: Option<&str>,
    limit: usize,
    report: &mut Report,
) -> Result<(), Stop> {
    let files = Pattern::of_names(glob.unwrap_or("*")).map_err(|why| invalid("glob", &why))?;
    let (base, opened) = start(path, OFlags::empty())?;
    let finder = Finder::new(pattern.as_bytes());
    let mut grep = Grep { base, files: &files, finder, left: limit, buffer: vec![0; BLOCK], report };
    let metadata = opened.metadata().map_err(|error| Stop::io(path, &error))?;
    if metadata.is_dir() {
        return walk(opened.into(), &files.start(), &mut grep);
    }
    if metadata.is_file() {
        let base = grep.base.clone();
        return grep.file(opened, &base);
    }
    Err(Failure { step: format!("search {path}"), errno: libc::EINVAL }.into())
}

fn start(path: &str, kind: OFlags) -> Result<(PathBuf, File), Failure> {
    let failed = |error| crate::failure::from_io(format!("open {path}"), &error);
    let base = absolute(path).map_err(failed)?;
    let opened = open(&base, kind | OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY).map_err(failed)?;
    Ok((base, opened))
}

fn invalid(what: &str, why: &str) -> Failure {
    Failure { step: format!("{what} {why}"), errno: libc::EINVAL }
}

struct Glob<'a> {
    base: PathBuf,
    pattern: &'a Pattern,
    left: usize,
    report: &'a mut Report,
}

impl Visitor for Glob<'_> {
    type State = Progress;

    fn visit(&mut self, found: &Found<'_>, so_far: &Progress) -> Result<Option<Progress>, Stop> {
        self.report.step()?;
        let so_far = self.pattern.step(so_far, &found.name.to_string_lossy());
        if self.pattern.is_matched(&so_far) {
            let path = self.base.join(found.path).to_string_lossy().into_owned();
            match described(found) {
                Ok(stat) => {
                    self.left = self.left.checked_sub(1).ok_or(Stop::Truncated)?;
                    self.report.tell(&Record::Entry(entry(path, &stat, None)))?;
                }
                Err(error) if vanished(&error) => {}
                Err(error) => self.left_out(from_io(format!("look at {path}"), &error))?,
            }
        }
        Ok((found.kind == FileType::Directory && self.pattern.goes_on(&so_far)).then_some(so_far))
    }

    fn report(&mut self) -> &mut Report {
        self.report
    }
}

/// A link is described as what it leads to, if that can be looked at: links of `/proc` to descriptors can't be, which are
/// those of this process itself.
fn described(found: &Found<'_>) -> io::Result<Stat> {
    let stat = statat(found.dir, found.name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        return Ok(stat);
    }
    let led = open_at(found.dir, Path::new(found.name), OFlags::PATH).and_then(|led| Ok(fstat(led)?));
    Ok(led.unwrap_or(stat))
}

struct Grep<'a> {
    base: PathBuf,
    files: &'a Pattern,
    finder: Finder<'a>,
    left: usize,
    buffer: Vec<u8>,
    report: &'a mut Report,
}

impl Visitor for Grep<'_> {
    type State = Progress;

    fn visit(&mut self, found: &Found<'_>, so_far: &Progress) -> Result<Option<Progress>, Stop> {
        self.report.step()?;
        let so_far = self.files.step(so_far, &found.name.to_string_lossy());
        if found.kind == FileType::RegularFile && self.files.is_matched(&so_far) {
            let path = self.base.join(found.path);
            match open_file(found.dir, found.name) {
                Ok(Some(file)) => self.file(file, &path)?,
                Ok(None) => {}
                Err(error) => self.left_out(from_io(format!("open {}", path.display()), &error))?,
            }
        }
        Ok((found.kind == FileType::Directory && self.files.goes_on(&so_far)).then_some(so_far))
    }

    fn report(&mut self) -> &mut Report {
        self.report
    }
}

impl Grep<'_> {
    /// Searches a file up to its end, or up to the first NUL byte, which text has none of.
    fn file(&mut self, mut file: impl Read, path: &Path) -> Result<(), Stop> {
        let path = path.to_string_lossy();
        let mut buffer = std::mem::take(&mut self.buffer);
        let searched = self.blocks(&mut file, &path, &mut buffer);
        self.buffer = buffer;
        searched
    }

    fn blocks(&mut self, file: &mut impl Read, path: &str, buffer: &mut [u8]) -> Result<(), Stop> {
        // `told`: the line that the buffer begins in the middle of was reported already.
        let (mut line, mut filled, mut told) = (1, 0, false);
        loop {
            self.report.step()?;
            let read = match file.read(buffer.get_mut(filled..).unwrap_or_default()) {
                Ok(read) => read,
                Err(error) => return self.left_out(from_io(format!("read {path}"), &error)),
            };
            let fresh = buffer.get(filled..filled + read).unwrap_or_default();
            if memchr(0, fresh).is_some() {
                return Ok(());
            }
            filled += read;
            let all = buffer.get(..filled).unwrap_or_default();
            let whole = if read == 0 { filled } else { memrchr(b'\n', all).map_or(0, |end| end + 1) };
            if whole > 0 {
                let lines = all.get(..whole).unwrap_or_default();
                self.lines(lines, path, line, told)?;
                line += memchr_iter(b'\n', lines).count() as u64;
                told = false;
            }
            if read == 0 {
                return Ok(());
            }
            let mut kept = whole;
            if whole == 0 && filled == buffer.len() {
                // A line longer than the buffer. Its match may lie across this end.
                told |= self.lines(all, path, line, told)?;
                kept = filled - (self.finder.needle().len() - 1).min(filled / 2);
            }
            buffer.copy_within(kept..filled, 0);
            filled -= kept;
        }
    }

    /// Reports lines of a piece that begins on line `line`; says whether there were any.
    fn lines(&mut self, piece: &[u8], path: &str, mut line: u64, told: bool) -> Result<bool, Stop> {
        let mut at = if told { memchr(b'\n', piece).unwrap_or(piece.len()) } else { 0 };
        let (mut counted, mut any) = (0, false);
        while let Some(hit) = self.finder.find(piece.get(at..).unwrap_or_default()).map(|hit| at + hit) {
            let before = piece.get(..hit).unwrap_or_default();
            let start = memrchr(b'\n', before).map_or(0, |end| end + 1);
            let end =
                memchr(b'\n', piece.get(hit..).unwrap_or_default()).map_or(piece.len(), |end| hit + end);
            line += memchr_iter(b'\n', piece.get(counted..start).unwrap_or_default()).count() as u64;
            counted = start;
            self.left = self.left.checked_sub(1).ok_or(Stop::Truncated)?;
            let text = cut(piece.get(start..end).unwrap_or_default(), hit - start);
            self.report.tell(&Record::Line { path: path.to_owned(), line, text })?;
            self.report.step()?;
            any = true;
            at = end;
        }
        Ok(any)
    }
}

/// A line as text, or what is around its match.
fn cut(line: &[u8], hit: usize) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let start =
        if line.len() <= TEXT_MAX { 0 } else { hit.saturating_sub(TEXT_MAX / 4).min(line.len() - TEXT_MAX) };
    let end = line.len().min(start + TEXT_MAX);
    String::from_utf8_lossy(line.get(start..end).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sandwire_init::job::Record;
    use std::io::{BufRead, BufReader};

    /// A reader that gives little at a time.
    struct Drops<'a>(&'a [u8], usize);

    impl Read for Drops<'_> {
        fn read(&mut self, space: &mut [u8]) -> std::io::Result<usize> {
            let size = self.1.min(space.len());
            self.0.read(&mut space[..size])
        }
    }

    fn found(text: &[u8], needle: &str, drop: usize, block: usize) -> Vec<(u64, String)> {
        let (reader, writer) = std::io::pipe().unwrap();
        let told = std::thread::spawn(move || {
            BufReader::new(reader).lines().map(Result::unwrap).collect::<Vec<_>>()
        });
        let mut report = Report::new(writer.into(), 60);
        let files = Pattern::new("*").unwrap();
        let mut grep = Grep {
            base: PathBuf::new(),
            files: &files,
            finder: Finder::new(needle.as_bytes()),
            left: 1000,
            buffer: vec![0; block],
            report: &mut report,
        };
        let result = grep.file(Drops(text, drop), Path::new("f"));
        report.finish(result);
        let records = told.join().unwrap().into_iter().map(|line| serde_json::from_str(&line).unwrap());
        records
            .filter_map(|record| match record {
                Record::Line { line, text, .. } => Some((line, text)),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn lines_are_counted_and_cut() {
        let lines = found(b"a needle\nb\r\n\nneedle needle\r\nno end needle", "needle", 1000, BLOCK);
        let expected = [(1, "a needle"), (4, "needle needle"), (5, "no end needle")];
        assert_eq!(lines, expected.map(|(line, text)| (line, text.to_owned())));
        assert_eq!(found(b"needle\0", "needle", 1000, BLOCK), []);
        assert_eq!(
            found(b"\xff needle \xc3", "needle", 1000, BLOCK),
            [(1, "\u{fffd} needle \u{fffd}".to_owned())]
        );
        let long = format!("{}needle{}\nneedle", "x".repeat(3_000_000), "y".repeat(3_000_000));
        let lines = found(long.as_bytes(), "needle", 100_000, BLOCK);
        assert_eq!((lines.len(), lines[1].clone()), (2, (2, "needle".to_owned())));
        assert!(lines[0].0 == 1 && lines[0].1.contains("needle") && lines[0].1.len() <= TEXT_MAX);
    }

    proptest! {
        #[test]
        fn it_finds_what_lines_find(text in "[ab\n]{0,200}", needle in "[ab]{1,4}", drop in 1usize..50) {
            // Lines are shorter than the block, so that texts are whole.
            let expected: Vec<_> = (1..).zip(text.lines())
                .filter(|(_, line)| line.contains(&needle)).map(|(n, line)| (n, line.to_owned())).collect();
            prop_assert_eq!(found(text.as_bytes(), &needle, drop, 256), expected);
        }

        #[test]
        fn long_lines_are_found_once(text in "[ab\n]{0,300}", needle in "[ab]{1,4}", drop in 1usize..50) {
            let expected: Vec<_> = (1u64..).zip(text.lines())
                .filter(|(_, line)| line.contains(&needle)).map(|(n, _)| n).collect();
            let lines: Vec<_> = found(text.as_bytes(), &needle, drop, 16).into_iter().map(|(n, _)| n).collect();
            prop_assert_eq!(lines, expected);
        }
    }
}
