//! gzip for what a body holds: records most of whose bytes stood in the record before.
//!
//! In: the bytes of a body as they are appended, behind up to 32 KiB of those before them. Out: one gzip member (RFC 1952)
//! of deflate blocks (RFC 1951), which every reader takes. Never knows what the bytes mean, and never names a repeat
//! whose bytes it has not compared.
//!
//! Why not zlib: of a record's 650 bytes and more, some 400 are its container's metadata and stand in the record before,
//! and a general encoder looks for them and names them at the same pains as for anything else. What is different here:
//!
//! - A repeat is followed as far as it goes, a long one 32 bytes at a step, and only then named in the parts of 258 that deflate
//!   knows. So metadata costs a look and a comparison.
//! - Whoever fills the body says where metadata begins, so that it is not passed over behind a text that never repeats.
//! - One place is remembered for six bytes, and the first repeat is taken: what a longer search would find in logs is
//!   not worth its time.
//! - Bytes are written as soon as they have been looked at, in one pass, by the codes that suited the block before, or the
//!   body before. Every symbol always has a code, so that nothing can come up that cannot be written.

use crc32fast::Hasher;

#[cfg(test)]
#[path = "gzip_tests.rs"]
mod tests;

/// How far back a repeat may lie, in bytes.
pub const WINDOW: usize = 32 << 10;

/// What a member begins with: deflate, no name, no time, made quickly, on a system that is not told.
const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];

/// A shorter repeat, in bytes, is no gain over the bytes themselves. As many are looked for at once.
const LEAST: usize = 6;

/// The longest repeat that has a name, in bytes.
const LONGEST: usize = 258;

/// So many places are remembered, as a power of 2. Fewer stay closer to the processor, but more of them lead to bytes that
/// only share a hash with those that are looked for, and each of these is a guess of the processor's that goes wrong.
const PLACES: u32 = 15;

/// The search takes longer steps the longer it has found nothing: by one byte for each so many, as a power of 2. A step
/// never leads over a place where a repeat is to be expected.
const PATIENCE: u32 = 5;

/// A block ends after so many bytes of the body, and new codes are made: enough that making them costs little even where most
/// bytes are metadata, of which little is written.
const BLOCK: usize = 512 << 10;

/// It ends earlier once it has become so many bytes: then its codes may suit it badly.
const WRITTEN: usize = 32 << 10;

/// The very first block, whose codes are a guess, is shorter.
const FIRST_BLOCK: usize = 16 << 10;

/// New codes are made of what the first bytes of a block became: so many, or the rest of a turn more.
const SAMPLE: usize = 64 << 10;

/// Codes are not made of fewer symbols than these.
const FEWEST: u32 = 2_000;

/// Bytes are written into a piece of memory of this size first.
const CHUNK: usize = 16 << 10;

/// At most so many bytes of the body are written without a look at how full that is.
const RUN: usize = 2 << 10;

/// The longest code of a byte or a length, in bits: four of them fit into 64 bits, beside seven that wait there.
const LONGEST_LITERAL: usize = 13;

/// The longest code of a distance, in bits: with its own 13 bits, and a length with its 5, it fits there too.
const LONGEST_DISTANCE: usize = 15;

/// The longest code of a code's length, in bits.
const LONGEST_LENGTH: usize = 7;

/// Bytes, the end of a block, and lengths.
const LITERALS: usize = 286;
const DISTANCES: usize = 30;
const END_OF_BLOCK: usize = 256;
const LENGTHS: usize = 257;

/// Lengths of repeats as RFC 1951 names them: the first of each symbol, and how many bits say which it is.
const LENGTH_BASE: [u16; 29] = [
    3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195,
    227, 258,
];
const LENGTH_BITS: [u8; 29] =
    [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];

/// The symbol of each length.
const LENGTH_SYMBOL: [u8; LONGEST + 1] = {
    let (mut symbols, mut symbol) = ([0; LONGEST + 1], 0);
    while symbol < LENGTH_BASE.len() {
        let mut length = LENGTH_BASE[symbol] as usize;
        let end = length + (1 << LENGTH_BITS[symbol]);
        while length < end {
            symbols[length] = symbol as u8;
            length += 1;
        }
        symbol += 1;
    }
    symbols
};

/// Encodes one body after the other.
pub struct Gzip {
    out: Vec<u8>,
    pending: Pending,
    /// Where six bytes stood last, by their hash. Bytes are counted through all bodies.
    places: Box<[u32; 1 << PLACES]>,
    /// What the first byte of this body is counted as.
    begin: u32,
    /// Bytes of this body so far.
    length: usize,
    /// Bytes of it in the open block, if one is open, and how many had been written before that.
    block: Option<(usize, usize)>,
    checksum: Hasher,
    codes: Box<Codes>,
    counts: Box<Counts>,
}

impl std::fmt::Debug for Gzip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gzip").field("length", &self.length).finish_non_exhaustive()
    }
}

impl Default for Gzip {
    fn default() -> Gzip {
        Gzip::new()
    }
}

impl Gzip {
    /// For a first body.
    pub fn new() -> Gzip {
        Gzip {
            out: Vec::new(),
            pending: Pending { chunk: Box::new([0; CHUNK]), at: 0, bits: 0, count: 0 },
            places: Box::new([0; 1 << PLACES]),
            begin: WINDOW as u32 + 1,
            length: 0,
            block: None,
            checksum: Hasher::new(),
            codes: Box::new(Codes::guessed()),
            counts: Box::new(Counts::new()),
        }
    }

    /// Takes what stands in `window` from `from` on. In front of that stand the last bytes that it took for this body: 32 KiB
    /// of them, or all. `expected`: where in the window, in order, something begins that stood there before.
    pub fn write(&mut self, window: &[u8], from: usize, expected: &[usize]) {
        debug_assert!(from >= self.length.min(WINDOW));
        // A second head would be no deflate.
        if from == window.len() {
            return;
        }
        if self.length == 0 {
            self.out.reserve(8 * WRITTEN);
            self.out.extend_from_slice(&HEAD);
        }
        self.checksum.update(&window[from..]);
        let (mut from, mut expected) = (from, expected.iter().copied());
        while from < window.len() {
            let most = if self.codes.guessed { FIRST_BLOCK } else { BLOCK };
            let (used, before) = match self.block {
                Some((used, before)) if used < most && self.written() < before + WRITTEN => (used, before),
                block => {
                    if block.is_some() {
                        self.end_block();
                    }
                    self.begin_block();
                    (0, self.written())
                }
            };
            let end = window.len().min(from + (most - used));
            if self.counts.bytes < SAMPLE {
                self.counts.bytes += end - from;
                self.encode::<true>(&window[..end], from, &mut expected);
            } else {
                self.encode::<false>(&window[..end], from, &mut expected);
            }
            self.block = Some((used + end - from, before));
            self.length += end - from;
            from = end;
        }
    }

    /// Ends the body, which it gives out, and begins the next.
    pub fn finish(&mut self) -> Vec<u8> {
        if self.length == 0 {
            self.out.extend_from_slice(&HEAD);
        }
        if self.block.take().is_some() {
            self.end_block();
        }
        // An empty block of RFC 1951's own codes, which is the last one. Then the rest of a byte.
        self.put(0b011, 3 + 7);
        self.put(0, 7);
        (self.pending.bits, self.pending.count) = (0, 0);
        self.out.extend_from_slice(&self.pending.chunk[..self.pending.at]);
        self.pending.at = 0;
        self.out.extend_from_slice(&std::mem::take(&mut self.checksum).finalize().to_le_bytes());
        self.out.extend_from_slice(&(self.length as u32).to_le_bytes());
        // All places that are remembered are now too far away.
        self.begin = self.begin.wrapping_add((self.length + WINDOW + 1) as u32);
        self.length = 0;
        std::mem::take(&mut self.out)
    }

    /// Bytes of this body that are written.
    fn written(&self) -> usize {
        self.out.len() + self.pending.at
    }

    fn begin_block(&mut self) {
        // Not the last one, and with codes of its own.
        self.put(0b100, 3);
        let head = std::mem::take(&mut self.codes.head);
        for &(bits, count) in &head {
            self.put(u64::from(bits), u32::from(count));
        }
        self.codes.head = head;
    }

    fn end_block(&mut self) {
        let end = self.codes.literals[END_OF_BLOCK];
        self.put(end.bits(), end.count());
        if self.counts.symbols() >= FEWEST {
            *self.codes = Codes::of(&self.counts);
            self.counts.fade();
        }
        // What became so little counts on with what follows.
        self.counts.bytes = 0;
    }

    fn put(&mut self, bits: u64, count: u32) {
        let mut writer = self.pending.writer(&mut self.out);
        writer.make_room(8);
        writer.push(bits, count);
        writer.flush();
        let state = writer.state();
        self.pending.keep(state);
    }

    /// Encodes what stands in `window` from `from` on, and counts the symbols if `COUNT`.
    fn encode<const COUNT: bool>(
        &mut self,
        window: &[u8],
        from: usize,
        expected: &mut impl Iterator<Item = usize>,
    ) {
        let Gzip { out, pending, places, codes, counts, .. } = self;
        let mut writer = pending.writer(out);
        // What the window's first byte is counted as, and where in it the body begins.
        let origin = self.begin.wrapping_add(self.length as u32).wrapping_sub(from as u32);
        let begin = from.saturating_sub(self.length);
        // Behind it words are not read whole.
        let last = window.len().saturating_sub(16);
        let (mut at, mut written) = (from, from);
        // Where the search has run so far without finding anything, and where it begins anew at the latest.
        let (mut searched, mut next) = (from, 0);
        while at < last {
            if at >= next {
                searched = at;
                next = expected.find(|place| *place > at).unwrap_or(usize::MAX);
            }
            let here = word(window, at);
            let counted = origin.wrapping_add(at as u32);
            let place = &mut places[hash(here)];
            let distance = counted.wrapping_sub(*place) as usize;
            *place = counted;
            // Nought is no distance: that wraps.
            if distance.wrapping_sub(1) < WINDOW.min(at - begin) {
                let length = repeated(window, here, at, distance);
                if length >= LEAST {
                    let fresh = &window[written..at];
                    let more = repeated_before(fresh, &window[begin..at - distance]);
                    write_bytes::<COUNT>(&mut writer, codes, counts, &fresh[..fresh.len() - more]);
                    write_repeat::<COUNT>(&mut writer, codes, counts, length + more, distance);
                    at += length;
                    (written, searched) = (at, at);
                    if at < last {
                        let inner = at - 2;
                        places[hash(word(window, inner))] = origin.wrapping_add(inner as u32);
                    }
                    continue;
                }
            }
            at = next.min(at + 1 + ((at - searched) >> PATIENCE));
        }
        write_bytes::<COUNT>(&mut writer, codes, counts, &window[written..]);
        let state = writer.state();
        pending.keep(state);
    }
}

/// What is on its way out.
struct Pending {
    chunk: Box<[u8; CHUNK]>,
    /// So many bytes of the chunk are written.
    at: usize,
    /// Bits behind these, the first ones lowest.
    bits: u64,
    count: u32,
}

impl Pending {
    fn writer<'a>(&'a mut self, out: &'a mut Vec<u8>) -> Writer<'a> {
        Writer { out, at: self.at, bits: self.bits, count: self.count, chunk: &mut self.chunk }
    }

    fn keep(&mut self, (at, bits, count): (usize, u64, u32)) {
        (self.at, self.bits, self.count) = (at, bits, count);
    }
}

/// [`Pending`] while it is at work: what changes with every symbol is then in the processor's registers.
struct Writer<'a> {
    out: &'a mut Vec<u8>,
    chunk: &'a mut [u8; CHUNK],
    at: usize,
    bits: u64,
    count: u32,
}

impl Writer<'_> {
    #[inline(always)]
    fn push(&mut self, bits: u64, count: u32) {
        self.bits |= bits << self.count;
        self.count += count;
    }

    /// Writes all whole bytes; fewer than eight bits wait on.
    #[inline(always)]
    fn flush(&mut self) {
        self.chunk[self.at..self.at + 8].copy_from_slice(&self.bits.to_le_bytes());
        self.at += (self.count / 8) as usize;
        self.bits >>= self.count & !7;
        self.count &= 7;
    }

    /// Makes sure that so many bytes can be written.
    #[inline(always)]
    fn make_room(&mut self, bytes: usize) {
        if self.at + bytes + 8 > CHUNK {
            self.out.extend_from_slice(&self.chunk[..self.at]);
            self.at = 0;
        }
    }

    fn state(&self) -> (usize, u64, u32) {
        (self.at, self.bits, self.count)
    }
}

#[inline(always)]
fn write_bytes<const COUNT: bool>(writer: &mut Writer<'_>, codes: &Codes, counts: &mut Counts, bytes: &[u8]) {
    for run in bytes.chunks(RUN) {
        writer.make_room(2 * RUN);
        let mut write = |bytes: &[u8]| {
            for &byte in bytes {
                if COUNT {
                    counts.literals[usize::from(byte)] += 1;
                }
                let code = codes.literals[usize::from(byte)];
                writer.push(code.bits(), code.count());
            }
            writer.flush();
        };
        let (fours, rest) = run.as_chunks::<4>();
        for four in fours {
            write(four);
        }
        write(rest);
    }
}

#[inline(always)]
fn write_repeat<const COUNT: bool>(
    writer: &mut Writer<'_>,
    codes: &Codes,
    counts: &mut Counts,
    mut length: usize,
    distance: usize,
) {
    let (symbol, extra) = distance_symbol(distance);
    let code = codes.distances[symbol];
    let (bits, count) =
        (code.bits() | u64::from(extra) << code.count(), code.count() + distance_bits(symbol));
    loop {
        // What is left is never too short to have a name.
        let part = match length {
            ..=LONGEST => length,
            LONGER..=LONGEST_BUT_IN_TWO => LONGEST - 3,
            _ => LONGEST,
        };
        if COUNT {
            counts.literals[LENGTHS + usize::from(LENGTH_SYMBOL[part])] += 1;
            counts.distances[symbol] += 1;
        }
        writer.make_room(8);
        let code = codes.lengths[part];
        writer.push(code.bits(), code.count());
        writer.push(bits, count);
        writer.flush();
        length -= part;
        if length == 0 {
            return;
        }
    }
}

/// Lengths of two parts, of which the first cannot be the longest: deflate has no name for the one or two bytes that would be
/// left.
const LONGER: usize = LONGEST + 1;
const LONGEST_BUT_IN_TWO: usize = LONGEST + 2;

#[inline(always)]
fn word(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].try_into().map_or(0, u64::from_le_bytes)
}

/// Of the first [`LEAST`] bytes.
#[inline(always)]
fn hash(word: u64) -> usize {
    ((word << (64 - 8 * LEAST as u32)).wrapping_mul(0x9e37_79b1_85eb_ca87) >> (64 - PLACES)) as usize
}

/// How many bytes from `at` on, the first eight of which are `here`, stand also `distance` before it.
#[inline(always)]
fn repeated(window: &[u8], here: u64, at: usize, distance: usize) -> usize {
    let differ = here ^ word(window, at - distance);
    if differ != 0 {
        return (differ.trailing_zeros() / 8) as usize;
    }
    let behind = &window[at + 8..];
    let before = &window[at + 8 - distance..][..behind.len()];
    let mut same = 0;
    while same + 8 <= behind.len() {
        let differ = word(behind, same) ^ word(before, same);
        if differ != 0 {
            return 8 + same + (differ.trailing_zeros() / 8) as usize;
        }
        same += 8;
        // Few repeats get here, and those that do are long.
        if same == 32 {
            let steps = before[32..].as_chunks::<32>().0.iter().zip(behind[32..].as_chunks::<32>().0);
            same += 32 * steps.take_while(|(a, b)| a == b).count();
        }
    }
    8 + same + before[same..].iter().zip(&behind[same..]).take_while(|(a, b)| a == b).count()
}

/// How many bytes at the end of `fresh` stand at the end of `before` too.
#[inline(always)]
fn repeated_before(fresh: &[u8], before: &[u8]) -> usize {
    fresh.iter().rev().zip(before.iter().rev()).take_while(|(a, b)| a == b).count()
}

/// The symbol of a distance, and what its further bits say.
#[inline(always)]
fn distance_symbol(distance: usize) -> (usize, u32) {
    let distance = distance as u32 - 1;
    if distance < 4 {
        return (distance as usize, 0);
    }
    let bits = 30 - distance.leading_zeros();
    ((2 * bits + (distance >> bits)) as usize, distance & ((1 << bits) - 1))
}

/// How many further bits a distance of this symbol has.
#[inline(always)]
fn distance_bits(symbol: usize) -> u32 {
    (symbol as u32 / 2).saturating_sub(1)
}

/// How often each symbol came up.
struct Counts {
    literals: [u32; LITERALS],
    distances: [u32; DISTANCES],
    /// Bytes of the body of which the symbols were counted, in this block.
    bytes: usize,
}

impl Counts {
    fn new() -> Counts {
        Counts { literals: [0; LITERALS], distances: [0; DISTANCES], bytes: 0 }
    }

    fn symbols(&self) -> u32 {
        self.literals.iter().sum()
    }

    /// Begins anew. What was counted goes on to count a little, so that one odd block does not spoil the codes.
    fn fade(&mut self) {
        self.literals.iter_mut().chain(&mut self.distances).for_each(|count| *count /= 4);
    }
}

/// Bits, the first one lowest, and how many they are.
#[derive(Clone, Copy, Default)]
struct Code(u32);

impl Code {
    fn new(bits: u32, count: u32) -> Code {
        Code(bits | count << 24)
    }

    #[inline(always)]
    fn bits(self) -> u64 {
        u64::from(self.0 & 0x00ff_ffff)
    }

    #[inline(always)]
    fn count(self) -> u32 {
        self.0 >> 24
    }
}

/// What each symbol is written as in a block.
struct Codes {
    literals: [Code; LITERALS],
    /// Of a length of so many bytes, its further bits included.
    lengths: [Code; LONGEST + 1],
    distances: [Code; DISTANCES],
    /// What tells all this at the beginning of the block: bits, and how many they are.
    head: Vec<(u16, u8)>,
    guessed: bool,
}

impl Codes {
    /// What suits logs, before any has been seen.
    fn guessed() -> Codes {
        const TEXT: &[u8] = br#""}}{"@timestamp":"2026-11-23T15:54:01.123456789Z","message":"GET /api/v1/orders/4711 200 in 12 ms
            INFO Started the consumer of partition 3, offset 90210; user=ab12 id=9f8e7d6c5b4a39281706f5e4d3c2b1a0"#;
        let mut counts = Counts::new();
        for byte in TEXT {
            counts.literals[usize::from(*byte)] += 1;
        }
        counts.literals[LENGTHS..].fill(3);
        counts.distances[distance_symbol(64).0..].fill(3);
        Codes { guessed: true, ..Codes::of(&counts) }
    }

    /// What suits these. Symbols that did not come up have a code too.
    fn of(counts: &Counts) -> Codes {
        const WEIGHT: u32 = 16;
        let weigh = |count: u32| count.min(u32::MAX / WEIGHT - 1) * WEIGHT + 1;
        let of_literals = code_lengths(&counts.literals.map(weigh), LONGEST_LITERAL);
        let of_distances = code_lengths(&counts.distances.map(weigh), LONGEST_DISTANCE);
        let literals = codes_of(&of_literals);
        let mut lengths = [Code::default(); LONGEST + 1];
        for (length, code) in lengths.iter_mut().enumerate().skip(3) {
            let symbol = usize::from(LENGTH_SYMBOL[length]);
            let (of_symbol, which) = (literals[LENGTHS + symbol], length - usize::from(LENGTH_BASE[symbol]));
            let count = of_symbol.count();
            *code = Code::new(
                of_symbol.bits() as u32 | (which as u32) << count,
                count + u32::from(LENGTH_BITS[symbol]),
            );
        }
        let head = head(&of_literals, &of_distances);
        Codes { literals, lengths, distances: codes_of(&of_distances), head, guessed: false }
    }
}

/// How long the code of each symbol is, in bits, to make the whole short while none is longer than `most`: Huffman's, and
/// where those are too long, the nearest that are not. Symbols that count nothing have none.
fn code_lengths<const N: usize>(counts: &[u32; N], most: usize) -> [u8; N] {
    let mut leaves: Vec<(u32, u16)> =
        (0..).zip(counts).filter(|(_, count)| **count > 0).map(|(symbol, count)| (*count, symbol)).collect();
    leaves.sort_unstable();
    let mut lengths = [0; N];
    if let [(_, only)] = leaves[..] {
        lengths[usize::from(only)] = 1;
        return lengths;
    }
    // Nodes behind the leaves, each of the two lightest that have no parent: both are in order of weight.
    let nodes = (2 * leaves.len()).saturating_sub(1);
    let mut weights: Vec<u64> = leaves.iter().map(|(count, _)| u64::from(*count)).collect();
    let mut parents = vec![0; nodes];
    let (mut leaf, mut node) = (0, leaves.len());
    for parent in leaves.len()..nodes {
        let mut weight = 0;
        for _ in 0..2 {
            let is_leaf = leaf < leaves.len() && (node == parent || weights[leaf] <= weights[node]);
            let lightest = if is_leaf { &mut leaf } else { &mut node };
            parents[*lightest] = parent;
            weight += weights[*lightest];
            *lightest += 1;
        }
        weights.push(weight);
    }
    let mut depths = vec![0; nodes];
    for at in (0..nodes.saturating_sub(1)).rev() {
        depths[at] = depths[parents[at]] + 1;
    }
    let mut of_length = vec![0_usize; most + 1];
    for depth in &depths[..leaves.len()] {
        of_length[(*depth).min(most)] += 1;
    }
    // Codes of n bits take up a share of 2^-n. Where that is too much in all, one of the longest and a shorter one
    // become two of one bit more than the shorter one.
    let mut taken: usize = (1..=most).map(|length| of_length[length] << (most - length)).sum();
    while taken > 1 << most {
        of_length[most] -= 1;
        if let Some(shorter) = (1..most).rev().find(|length| of_length[*length] > 0) {
            of_length[shorter] -= 1;
            of_length[shorter + 1] += 2;
        }
        taken -= 1;
    }
    let mut length = most;
    for (_, symbol) in leaves {
        while of_length[length] == 0 {
            length -= 1;
        }
        of_length[length] -= 1;
        lengths[usize::from(symbol)] = length as u8;
    }
    lengths
}

/// The codes of these lengths, as RFC 1951 numbers them: in order of length, then of symbol.
fn codes_of<const N: usize>(lengths: &[u8; N]) -> [Code; N] {
    let mut next = [0_u16; 16];
    for length in 1..next.len() {
        let shorter = lengths.iter().filter(|shorter| usize::from(**shorter) == length - 1 && length > 1);
        next[length] = (next[length - 1] + shorter.count() as u16) << 1;
    }
    lengths.map(|length| {
        if length == 0 {
            return Code::default();
        }
        let code = next[usize::from(length)];
        next[usize::from(length)] += 1;
        Code::new(u32::from(code.reverse_bits() >> (16 - length)), u32::from(length))
    })
}

/// What tells the lengths of all codes at the beginning of a block (RFC 1951, 3.2.7). All symbols have codes.
fn head(literals: &[u8; LITERALS], distances: &[u8; DISTANCES]) -> Vec<(u16, u8)> {
    /// The order in which the lengths of the codes of lengths are told.
    const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
    /// Repeats the length before it three times and more, as two further bits say.
    const AGAIN: u8 = 16;
    let all: Vec<u8> = literals.iter().chain(distances).copied().collect();
    let mut symbols = Vec::new();
    for run in all.chunk_by(|a, b| a == b) {
        symbols.push((run[0], None));
        let mut left = run.len() - 1;
        while left >= 3 {
            let repeated = left.min(6);
            symbols.push((AGAIN, Some(repeated - 3)));
            left -= repeated;
        }
        symbols.extend(std::iter::repeat_n((run[0], None), left));
    }
    let mut counts = [0; ORDER.len()];
    for (symbol, _) in &symbols {
        counts[usize::from(*symbol)] += 1;
    }
    let lengths = code_lengths(&counts, LONGEST_LENGTH);
    let codes = codes_of(&lengths);
    let told = ORDER.len() - ORDER.iter().rev().take_while(|symbol| lengths[**symbol] == 0).count();
    let mut head = vec![((LITERALS - 257) as u16, 5), ((DISTANCES - 1) as u16, 5), ((told - 4) as u16, 4)];
    head.extend(ORDER[..told].iter().map(|symbol| (u16::from(lengths[*symbol]), 3)));
    for (symbol, repeated) in symbols {
        let code = codes[usize::from(symbol)];
        head.push((code.bits() as u16, code.count() as u8));
        head.extend(repeated.map(|repeated| (repeated as u16, 2)));
    }
    head
}
