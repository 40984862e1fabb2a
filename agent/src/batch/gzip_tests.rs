//! What the encoder gives out is read back by another implementation.

use std::io::Read;

use flate2::Compression;
use flate2::read::{GzDecoder, GzEncoder};
use proptest::prelude::*;

use super::*;

/// A body given to an encoder in pieces of these sizes, as a request's body does it.
fn encoded(gzip: &mut Gzip, body: &[u8], pieces: impl IntoIterator<Item = usize>) -> Vec<u8> {
    let (mut window, mut rest) = (Vec::new(), body);
    let mut pieces = pieces.into_iter();
    // A turn may yield nothing: before the first record of a body, too.
    gzip.write(&window, 0, &[]);
    while !rest.is_empty() {
        let piece = pieces.next().unwrap_or(rest.len()).min(rest.len());
        let from = window.len();
        window.extend_from_slice(&rest[..piece]);
        rest = &rest[piece..];
        gzip.write(&window, from, &[]);
        window.drain(..window.len().saturating_sub(WINDOW));
        gzip.write(&window, window.len(), &[]);
    }
    gzip.finish()
}

fn decoded(member: &[u8]) -> Vec<u8> {
    let (mut body, mut reader) = (Vec::new(), GzDecoder::new(member));
    reader.read_to_end(&mut body).expect("a gzip member");
    assert!(reader.into_inner().is_empty(), "and nothing behind it");
    body
}

#[track_caller]
fn comes_back(gzip: &mut Gzip, body: &[u8], pieces: impl IntoIterator<Item = usize>) -> usize {
    let member = encoded(gzip, body, pieces);
    assert!(decoded(&member) == body, "{} bytes came back otherwise", body.len());
    member.len()
}

/// Bytes without any pattern.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..length).map(|_| random.u8(..)).collect()
}

/// Documents of a few containers, in turns.
fn documents(seed: u64, bytes: usize) -> Vec<u8> {
    let (mut random, mut body) = (fastrand::Rng::with_seed(seed), Vec::new());
    while body.len() < bytes {
        let (pod, uid) = (random.u32(..9), random.u128(..));
        for _ in 0..random.u32(1..200) {
            let (id, status, path) = (random.u64(..), random.u32(200..504), random.u32(..5000));
            body.extend_from_slice(
                format!(
                    concat!(
                        r#"{{"create":{{"_index":"logs-shop","_id":"{0:x}-{1}"}}}}"#,
                        "\n",
                        r#"{{"@timestamp":"2026-11-23T15:54:01.{2:09}Z","message":"GET /orders/{3} {4} {1:x}","#,
                        r#""log":{{"level":"info"}},"kubernetes":{{"namespace":"shop","pod":{{"name":"web-{5}","#,
                        r#""uid":"{0:x}"}},"labels":{{"app.kubernetes.io/name":"web","app.kubernetes.io/part-of":"#,
                        r#""shop","helm.sh/chart":"web-1.2.3"}},"node":{{"name":"ip-10-0-1-23.eu-west-1"}}}}}}"#,
                        "\n"
                    ),
                    uid,
                    id,
                    random.u32(..1_000_000_000),
                    path,
                    status,
                    pod
                )
                .as_bytes(),
            );
        }
    }
    body
}

#[test]
fn every_body_comes_back() {
    let all: Vec<u8> = (0..=255).collect();
    let bodies = [
        Vec::new(),
        vec![0],
        b"{\"message\":\"hi\"}\n".to_vec(),
        all.clone(),
        all.repeat(5000),
        vec![b'a'; 1 << 20],
        noise(1, 3 * BLOCK + 17),
        [documents(1, 2 * BLOCK), noise(2, BLOCK), documents(1, 2 * BLOCK)].concat(),
    ];
    // One encoder for them all: nothing of a body may be needed to read the next.
    let mut gzip = Gzip::new();
    for piece in [1 << 30, 128 << 10, 4099] {
        for body in &bodies {
            comes_back(&mut gzip, body, std::iter::repeat(piece));
        }
    }
}

#[test]
fn repeats_of_every_length_and_at_the_edges_of_the_window_come_back() {
    let fresh = noise(3, 2000);
    for length in 1..1100 {
        let body = [&fresh[..length], b"|", &fresh[..length], b"."].concat();
        comes_back(&mut Gzip::new(), &[body, noise(4, 20)].concat(), []);
    }
    for apart in WINDOW - 600..WINDOW + 10 {
        let mut body = noise(5, apart + 500);
        body.copy_within(..300, apart);
        comes_back(&mut Gzip::new(), &body, [apart, 100]);
    }
}

#[test]
fn what_is_expected_is_found_however_long_nothing_was_found_before() {
    let (metadata, mut body, mut expected) = (noise(6, 2_000), Vec::new(), Vec::new());
    for record in 0..20 {
        body.extend_from_slice(&noise(100 + record, 10_000));
        expected.push(body.len());
        body.extend_from_slice(&metadata);
    }
    let mut gzip = Gzip::new();
    gzip.write(&body, 0, &expected);
    let member = gzip.finish();
    assert!(decoded(&member) == body);
    let fresh = encoded(&mut Gzip::new(), &[noise(7, 200_000), metadata].concat(), []).len();
    assert!(
        member.len() < fresh + 19 * 2_000 / 8,
        "{} bytes, of which {fresh} never stood there",
        member.len()
    );
}

#[test]
fn bodies_are_as_small_as_zlibs_quickest() {
    let body = documents(7, 4 << 20);
    let mut zlib = Vec::new();
    GzEncoder::new(&body[..], Compression::new(1)).read_to_end(&mut zlib).expect("it is encoded");
    let mut gzip = Gzip::new();
    for _ in 0..2 {
        let ours = comes_back(&mut gzip, &body, std::iter::repeat(128 << 10));
        assert!(ours * 100 < zlib.len() * 115, "{ours} bytes, of zlib {}", zlib.len());
    }
    // And the bodies of an agent that has little to send, once it has sent some.
    let small = &documents(8, 64 << 10)[..20_000];
    let mut zlib = Vec::new();
    GzEncoder::new(small, Compression::new(1)).read_to_end(&mut zlib).expect("it is encoded");
    let ours = comes_back(&mut gzip, small, []);
    assert!(ours * 100 < zlib.len() * 115, "{ours} bytes of a small body, of zlib {}", zlib.len());
}

#[test]
fn codes_suit_what_comes_however_little_became_of_what_came_before() {
    let mut gzip = Gzip::new();
    let text = b"the same line of a stack trace, over and over again, and all of it in one repeat\n";
    comes_back(&mut gzip, &text.repeat(20_000), std::iter::repeat(128 << 10));
    let body = documents(13, 2 << 20);
    let ours = comes_back(&mut gzip, &body, std::iter::repeat(64 << 10));
    let fresh = comes_back(&mut Gzip::new(), &body, std::iter::repeat(64 << 10));
    // One block by codes that do not suit it at all.
    assert!(ours < fresh + WRITTEN, "{ours} bytes, {fresh} by an encoder that saw nothing before");
}

#[test]
fn what_does_not_compress_grows_little() {
    let mut gzip = Gzip::new();
    comes_back(&mut gzip, &documents(9, 1 << 20), []);
    let ours = comes_back(&mut gzip, &noise(10, 8 << 20), std::iter::repeat(100_000));
    assert!(ours < (8 << 20) * 103 / 100, "{ours} bytes");
}

#[test]
fn more_bytes_than_are_counted_do_no_harm() {
    let mut gzip = Gzip::new();
    let body = documents(11, 300_000);
    comes_back(&mut gzip, &body, []);
    // As after nearly 4 GiB.
    gzip.begin = u32::MAX - 100_000;
    for _ in 0..4 {
        comes_back(&mut gzip, &body, std::iter::repeat(10_000));
    }
}

#[test]
fn codes_use_what_there_is_and_are_never_too_long() {
    // Weights like these make codes as long as there are symbols.
    let mut fibonacci = [1_u32; DISTANCES];
    for at in 2..DISTANCES {
        fibonacci[at] = fibonacci[at - 1] + fibonacci[at - 2];
    }
    for most in [5, 7, 13, 15] {
        let lengths = code_lengths(&fibonacci, most);
        let taken: usize = lengths.iter().map(|length| 1 << (most - usize::from(*length))).sum();
        assert_eq!(taken, 1 << most, "{lengths:?}");
    }
    assert_eq!(code_lengths(&[0, 7, 0], 15), [0, 1, 0]);
    assert_eq!(code_lengths(&[0; 3], 15), [0; 3]);
}

proptest! {
    #[test]
    fn any_bodies_come_back_whatever_pieces_they_come_in(
        bodies in prop::collection::vec(
            prop::collection::vec(
                prop_oneof![
                    prop::collection::vec(any::<u8>(), 0..400),
                    prop::collection::vec(prop::sample::select(b"ab".to_vec()), 0..400),
                    (0..50_usize, 1..2000_usize).prop_map(|(from, length)| noise(12, 3000)[from..][..length].to_vec()),
                    (0..5_u64).prop_map(|seed| documents(seed, 40_000)),
                ],
                0..30,
            ),
            1..4,
        ),
        pieces in prop::collection::vec(1..100_000_usize, 1..6),
    ) {
        let mut gzip = Gzip::new();
        for body in bodies {
            comes_back(&mut gzip, &body.concat(), pieces.iter().copied().cycle());
        }
    }
}
