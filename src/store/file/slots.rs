//! The form of a file that keeps one value: two headers that are written in turn, and behind them the bytes that each points to.
//! The bytes are written first, never over those that count, so whoever is killed at any step leaves the last value or the next.
//! Knows nothing of what the bytes mean.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// How long a new file is: written whole, so that a disk that is full says so before anything counts on it.
pub const NEW_LENGTH: usize = 16 << 10;
/// What is longer is no value of this library.
const MAX_LENGTH: u64 = 16 << 20;
/// Where the bytes begin. A header and bytes never share a sector of the disk.
const DATA: u64 = 512;
const SECTOR: u64 = 512;
const HEADERS: [usize; 2] = [0, 128];
const WORDS: usize = 10;
const MAGIC: &[u8; 7] = b"tkmfile";
/// Grows with each change of the form, never with the library.
const VERSION: u8 = 1;

/// When a value was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The file's own time, in microseconds since 1970.
    pub now: u64,
    /// The microseconds since the machine was started.
    pub since_boot: u64,
    /// Names that start of the machine; 0 where it has no name.
    pub boot: u64,
}

/// Which value of the file it is, and where its bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    sequence: u64,
    offset: u64,
    length: u64,
}

impl Place {
    /// What an empty file has.
    pub const NONE: Place = Place { sequence: 0, offset: DATA, length: 0 };

    /// Returns where the next value goes: below this one if there is room, else behind it.
    fn next(self, length: u64) -> Place {
        let is_room_below = self.offset - DATA >= length;
        let offset = if is_room_below { DATA } else { (self.offset + self.length).next_multiple_of(SECTOR) };
        Place { sequence: self.sequence + 1, offset, length }
    }
}

/// What a file holds.
#[derive(Debug)]
pub struct Value {
    pub place: Place,
    pub stamp: Stamp,
    /// Empty in a new file, and where the machine went down before anything reached the disk.
    pub bytes: Vec<u8>,
}

/// Why a file cannot be read.
#[derive(Debug)]
pub enum Fault {
    Io(io::Error),
    /// Something else wrote it.
    Foreign,
    /// A later version of this library wrote it.
    Newer(u8),
    /// It was damaged from outside.
    Torn,
}

#[derive(Clone, Copy)]
struct Header {
    place: Place,
    checksum: u64,
    stamp: Stamp,
    is_synced: bool,
}

/// Reads the value that counts, with no lock: what is written meanwhile is noticed, and read anew.
pub fn read(file: &File, boot: u64) -> Result<Value, Fault> {
    let (mut missed, mut tries) = (None, 0);
    loop {
        let mut head = [0; 8192];
        let count = read_up_to(file, &mut head, 0).map_err(Fault::Io)?;
        tries += 1;
        let (head, found) = match headers(&head) {
            Ok(found) => (&head[..count], found),
            // Half of a header may be there yet.
            Err(_) if tries < 4 => continue,
            Err(fault) => return Err(fault),
        };
        let Some(newest) = found.first() else {
            return Ok(Value { place: Place::NONE, stamp: Stamp::default(), bytes: Vec::new() });
        };
        if let Some(bytes) = bytes_of(file, newest, head).map_err(Fault::Io)? {
            return Ok(Value { place: newest.place, stamp: newest.stamp, bytes });
        }
        // Its place is given away two values later, and then there is a newer header.
        if missed == Some(newest.place.sequence) {
            return after_power_loss(file, &found, head, boot);
        }
        missed = Some(newest.place.sequence);
    }
}

/// A machine that goes down may have brought a header to the disk and not the bytes. Those that were not waited for are given up.
fn after_power_loss(file: &File, found: &[Header], head: &[u8], boot: u64) -> Result<Value, Fault> {
    let newest = &found[0];
    if newest.is_synced || (newest.stamp.boot == boot && boot != 0) {
        return Err(Fault::Torn);
    }
    let Place { sequence, .. } = newest.place;
    for older in &found[1..] {
        if let Some(bytes) = bytes_of(file, older, head).map_err(Fault::Io)? {
            return Ok(Value { place: Place { sequence, ..older.place }, stamp: newest.stamp, bytes });
        }
    }
    Ok(Value { place: Place { sequence, ..Place::NONE }, stamp: newest.stamp, bytes: Vec::new() })
}

/// Writes the value after `last`; the caller holds the file's lock. `is_synced` waits for the disk.
pub fn write(file: &File, last: Place, bytes: &[u8], stamp: Stamp, is_synced: bool) -> io::Result<()> {
    let place = last.next(bytes.len() as u64);
    if place.length > MAX_LENGTH {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "the token and its carried secret are larger than 16 MB",
        ));
    }
    file.write_all_at(bytes, place.offset)?;
    let header = Header { place, checksum: checksum(bytes), stamp, is_synced };
    file.write_all_at(&header.encode(), HEADERS[(place.sequence % 2) as usize] as u64)?;
    if is_synced { file.sync_data() } else { Ok(()) }
}

/// Returns the headers of a file that begins like this, the newest first.
fn headers(head: &[u8]) -> Result<Vec<Header>, Fault> {
    let (mut found, mut torn) = (Vec::with_capacity(2), false);
    for at in HEADERS {
        let mut bytes = [0; WORDS * 8];
        let there = &head[at.min(head.len())..(at + WORDS * 8).min(head.len())];
        bytes[..there.len()].copy_from_slice(there);
        if bytes == [0; WORDS * 8] {
            continue;
        }
        match (bytes.starts_with(MAGIC), bytes[MAGIC.len()]) {
            (true, VERSION) => match Header::decode(&bytes) {
                Some(header) => found.push(header),
                // It is being written; then the other one counts.
                None => torn = true,
            },
            (true, version) => return Err(Fault::Newer(version)),
            (false, _) => return Err(Fault::Foreign),
        }
    }
    found.sort_by_key(|header| std::cmp::Reverse(header.place.sequence));
    if found.is_empty() && torn { Err(Fault::Torn) } else { Ok(found) }
}

/// Returns the bytes that a header points to, `None` if they are not the ones that it was written for.
fn bytes_of(file: &File, header: &Header, head: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let Place { offset, length, .. } = header.place;
    let (from, to) = (offset as usize, offset.saturating_add(length) as usize);
    let bytes = match head.get(from..to) {
        Some(bytes) => bytes.to_vec(),
        None if length > MAX_LENGTH => return Ok(None),
        None => {
            let mut bytes = vec![0; length as usize];
            let count = read_up_to(file, &mut bytes, offset)?;
            bytes.truncate(count);
            bytes
        }
    };
    Ok((bytes.len() as u64 == length && checksum(&bytes) == header.checksum).then_some(bytes))
}

impl Header {
    fn encode(&self) -> [u8; WORDS * 8] {
        let Header { place, checksum: of_bytes, stamp, is_synced } = *self;
        let Place { sequence, offset, length } = place;
        let Stamp { now, since_boot, boot } = stamp;
        let mut out = [0; WORDS * 8];
        out[..MAGIC.len()].copy_from_slice(MAGIC);
        out[MAGIC.len()] = VERSION;
        let words = [sequence, offset, length, of_bytes, now, since_boot, boot, u64::from(is_synced)];
        for (at, word) in words.into_iter().enumerate() {
            out[(at + 1) * 8..][..8].copy_from_slice(&word.to_le_bytes());
        }
        let own = checksum(&out[..(WORDS - 1) * 8]);
        out[(WORDS - 1) * 8..].copy_from_slice(&own.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8; WORDS * 8]) -> Option<Header> {
        let word = |at: usize| bytes[at * 8..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
        if word(WORDS - 1) != checksum(&bytes[..(WORDS - 1) * 8]) || word(2) < DATA {
            return None;
        }
        let place = Place { sequence: word(1), offset: word(2), length: word(3) };
        let stamp = Stamp { now: word(5), since_boot: word(6), boot: word(7) };
        Some(Header { place, checksum: word(4), stamp, is_synced: word(8) != 0 })
    }
}

fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match file.read_at(&mut buffer[count..], offset + count as u64) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

/// A sum against tears, not against forgers: words of eight bytes, mixed as in FNV-1a with a rotation, and the length.
pub fn checksum(bytes: &[u8]) -> u64 {
    let mix = |sum: u64, word: u64| (sum.rotate_left(23) ^ word).wrapping_mul(0x0100_0000_01b3);
    let (words, rest) = bytes.as_chunks::<8>();
    let sum = words.iter().fold(0xcbf2_9ce4_8422_2325, |sum, word| mix(sum, u64::from_le_bytes(*word)));
    let sum = rest.iter().fold(sum, |sum, byte| mix(sum, u64::from(*byte)));
    let sum = mix(sum, bytes.len() as u64);
    // The highest bits have seen all others; the lowest have not.
    sum ^ sum >> 32
}
