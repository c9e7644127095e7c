//! The format: what goes in comes out, and nothing else is ever accepted.

use super::keys::DataKey;
use super::manifest::{self, Manifest};
use super::pack::{self, Stopped, pack};
use super::record::{self, HEADER, Invalid, PREFIX, Sealer};
use super::unpack::{self, unpack};
use super::{Sizes, Summary};
use bytes::Bytes;
use proptest::prelude::*;
use std::io::{self, Read};

const SMALL: Sizes = Sizes { record: 64, part: 100 };

fn key() -> DataKey {
    DataKey::derive(b"secret", "1-2-3")
}

fn packed(plain: &[u8], sizes: Sizes) -> (Vec<Bytes>, Summary) {
    let mut parts = Vec::new();
    let take = |part| -> Result<(), Stopped> {
        parts.push(part);
        Ok(())
    };
    let summary = pack(plain, &key(), sizes, take).expect("packed");
    (parts, summary)
}

fn read(parts: Vec<Bytes>, key: &DataKey, expected: &Summary) -> Result<Vec<u8>, unpack::Error> {
    unpack(parts.into_iter().map(Ok), key, expected, |plain| {
        let mut all = Vec::new();
        plain.read_to_end(&mut all).map(|_| all)
    })
}

/// Bytes of which some compress and some do not.
fn content(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let noise = |state: &mut u32| {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (*state >> 24) as u8
    };
    (0..length).map(|i| if (i / 40) % 2 == 0 { b'a' } else { noise(&mut state) }).collect()
}

#[test]
fn what_was_packed_is_unpacked_at_every_size_around_the_edges() {
    for length in [0, 1, 63, 64, 65, 127, 128, 129, 1000] {
        let plain = content(length);
        let (parts, summary) = packed(&plain, SMALL);
        assert_eq!(summary.plain_bytes, length as u64);
        assert_eq!(summary.parts as usize, parts.len());
        assert!(parts.iter().rev().skip(1).all(|part| part.len() == SMALL.part));
        assert_eq!(read(parts, &key(), &summary).expect("unpacked"), plain, "{length} bytes");
    }
}

#[test]
fn a_stream_of_the_real_sizes_is_the_same_after_it_and_its_parts_are_whole() {
    let plain = content(21 << 20);
    let (parts, summary) = packed(&plain, Sizes::default());
    assert!(summary.stored_bytes < plain.len() as u64 * 6 / 10 && parts.len() == 3, "{summary:?}");
    assert!(read(parts, &key(), &summary).expect("unpacked") == plain);
}

#[test]
fn two_streams_of_the_same_bytes_have_nothing_in_common() {
    let (one, two) = (packed(b"text", SMALL).0.concat(), packed(b"text", SMALL).0.concat());
    assert_ne!(one[HEADER + PREFIX..], two[HEADER + PREFIX..]);
}

#[test]
fn another_key_opens_nothing() {
    let (parts, summary) = packed(b"text", SMALL);
    let error = read(parts, &DataKey::derive(b"other", "1-2-3"), &summary).expect_err("refused");
    assert!(matches!(error, unpack::Error::Invalid(Invalid::Authentication(0))), "{error:?}");
}

/// Where each record starts and ends, without the header.
fn records(stream: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut all = Vec::new();
    let mut at = HEADER;
    while at < stream.len() {
        let length = u32::from_be_bytes(stream[at..at + PREFIX].try_into().expect("four bytes"));
        all.push(at..at + PREFIX + length as usize);
        at = all.last().expect("one").end;
    }
    all
}

#[test]
fn records_cannot_be_left_out_repeated_exchanged_or_taken_from_another_stream() {
    let plain = content(400);
    let (parts, summary) = packed(&plain, SMALL);
    let stream = parts.concat();
    let other = packed(&plain, SMALL).0.concat();
    let (here, there) = (records(&stream), records(&other));
    let last = here.len() - 1;
    let with = |order: &[&[u8]]| [&stream[..HEADER], &order.concat()].concat();
    let record = |index: usize| &stream[here[index].clone()];
    let all: Vec<&[u8]> = (0..=last).map(record).collect();
    let mut forged = vec![
        with(&all[1..]),
        with(&all[..last]),
        with(&[&all[..], &all[last..]].concat()),
        with(&[&[all[1], all[0]], &all[2..]].concat()),
        with(&[&[&other[there[0].clone()]], &all[1..]].concat()),
        with(&[]),
        other[..HEADER].iter().chain(&stream[HEADER..]).copied().collect(),
    ];
    forged.extend((1..last).map(|cut| with(&all[..cut])));
    for (number, stream) in forged.into_iter().enumerate() {
        let error = read(vec![stream.into()], &key(), &summary).expect_err("refused");
        assert!(matches!(error, unpack::Error::Invalid(_)), "forgery {number}: {error:?}");
    }
}

proptest! {
    #[test]
    fn every_stream_survives(plain in proptest::collection::vec(any::<u8>(), 0..2000), record in 1_usize..300) {
        let (parts, summary) = packed(&plain, Sizes { record, part: 60 });
        prop_assert_eq!(read(parts, &key(), &summary).expect("unpacked"), plain);
    }

    #[test]
    fn a_changed_byte_is_found_wherever_it_is(at in any::<proptest::sample::Index>(), change in 1_u8..) {
        let (parts, summary) = packed(&content(500), SMALL);
        let mut stream = parts.concat();
        let index = at.index(stream.len());
        stream[index] ^= change;
        let error = read(vec![stream.into()], &key(), &summary).expect_err("refused");
        prop_assert!(matches!(error, unpack::Error::Invalid(_)), "{:?}", error);
    }

    #[test]
    fn a_cut_is_found_wherever_it_is(at in any::<proptest::sample::Index>()) {
        let (parts, summary) = packed(&content(500), SMALL);
        let mut stream = parts.concat();
        stream.truncate(at.index(stream.len()));
        prop_assert!(read(vec![stream.into()], &key(), &summary).is_err());
    }

    #[test]
    fn parts_in_another_order_are_refused(from in 0_usize..6, to in 0_usize..6) {
        let (mut parts, summary) = packed(&content(500), SMALL);
        prop_assume!(from != to);
        parts.swap(from, to);
        prop_assert!(read(parts, &key(), &summary).is_err());
    }

    #[test]
    fn rubbish_is_refused_without_taking_much_memory(mut rubbish in proptest::collection::vec(any::<u8>(), 0..300)) {
        let (parts, summary) = packed(&content(500), SMALL);
        let header = parts.concat()[..HEADER].to_vec();
        rubbish.splice(..0, header);
        prop_assert!(read(vec![rubbish.into()], &key(), &summary).is_err());
    }
}

#[test]
fn an_authentic_stream_that_the_manifest_does_not_describe_is_refused() {
    let (parts, summary) = packed(&content(500), SMALL);
    for other in [
        Summary { parts: summary.parts + 1, ..summary.clone() },
        Summary { stored_bytes: 1, ..summary.clone() },
        Summary { plain_bytes: 1, ..summary.clone() },
        // The same bytes, sealed with the same key in another attempt.
        packed(&content(500), SMALL).1,
    ] {
        assert!(matches!(read(parts.clone(), &key(), &other), Err(unpack::Error::Other)));
    }
}

#[test]
fn an_authentic_record_whose_content_was_spoilt_is_refused() {
    let (sealer, _) = Sealer::create(&key());
    let compressed = record::compressor().expect("a compressor").compress(&content(500)).expect("compressed");
    let mut decompressor = zstd::bulk::Decompressor::new().expect("a decompressor");
    for at in [compressed.len() / 2, compressed.len() - 1] {
        let mut spoilt = [&[0; PREFIX], compressed.as_slice()].concat();
        spoilt[PREFIX + at] ^= 1;
        let sealed = sealer.seal_frame(0, true, spoilt).expect("sealed").split_off(PREFIX);
        assert_eq!(sealer.unseal(&mut decompressor, 0, true, sealed), Err(Invalid::Compression(0)), "byte {at}");
    }
}

#[test]
fn trouble_on_either_side_ends_every_thread_and_is_named() {
    struct Broken(usize);
    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(1).ok_or_else(|| io::Error::other("the pipe broke"))?;
            buffer.fill(7);
            Ok(buffer.len())
        }
    }
    let error = pack(Broken(20), &key(), SMALL, |_| Ok(())).expect_err("broken");
    assert!(matches!(&error, pack::Error::Read(cause) if cause.to_string() == "the pipe broke"), "{error:?}");
    let mut taken = 0;
    let full = |_| {
        taken += 1;
        if taken > 3 { Err(Stopped) } else { Ok(()) }
    };
    assert!(matches!(pack(io::repeat(7), &key(), SMALL, full), Err(pack::Error::Stopped)));

    let (parts, summary) = packed(&content(5000), SMALL);
    let cut = parts.iter().take(5).cloned().map(Ok).chain([Err(io::Error::other("the store went away"))]);
    let error = unpack(cut, &key(), &summary, |plain| io::copy(plain, &mut io::sink())).expect_err("cut");
    assert!(matches!(&error, unpack::Error::Source(cause) if cause.to_string() == "the store went away"), "{error:?}");
    let full = |plain: &mut dyn Read| {
        plain.read_exact(&mut [0; 10])?;
        Err::<(), _>(io::Error::from(io::ErrorKind::StorageFull))
    };
    let error = unpack(parts.into_iter().map(Ok), &key(), &summary, full).expect_err("full");
    assert!(
        matches!(&error, unpack::Error::Consumer(cause) if cause.kind() == io::ErrorKind::StorageFull),
        "{error:?}"
    );
}

/// Where the objects of [`a_manifest`] are.
const PLACE: &str = "shop/solo/1-2-3/4-5-6";

fn a_manifest() -> Manifest {
    Manifest {
        format: super::FORMAT,
        backup_uid: "1-2-3".into(),
        backup_id: "4-5-6".into(),
        namespace: "shop".into(),
        instance: "solo".into(),
        postgresql_major: 15,
        system_identifier: "7310000000000000001".into(),
        timeline: 1,
        start_lsn: "0/2000028".into(),
        end_lsn: "0/2000100".into(),
        started_at: "2026-01-02T03:04:05Z".into(),
        finished_at: "2026-01-02T03:04:06Z".into(),
        key: key().identifier(),
        summary: packed(b"text", SMALL).1,
    }
}

#[test]
fn a_manifest_is_read_as_it_was_written_and_no_byte_of_it_can_be_changed() {
    let manifest = a_manifest();
    let text = manifest.write(&key());
    assert_eq!(Manifest::read(&text, &key(), PLACE).expect("authentic"), manifest);
    for at in 0..text.len() {
        let mut forged = text.clone();
        forged[at] ^= 1;
        // Digits of the authentication in capitals are the same digits.
        let read = Manifest::read(&forged, &key(), PLACE);
        assert!(read.as_ref().map_or(true, |read| *read == manifest), "byte {at}: {read:?}");
    }
    let forged = String::from_utf8(text).expect("text").replace("\"solo\"", "\"duo\"");
    assert_eq!(Manifest::read(forged.as_bytes(), &key(), PLACE), Err(manifest::Error::Authentication));
}

#[test]
fn a_manifest_vouches_for_the_objects_beside_it_only() {
    let place = |manifest: &Manifest| Manifest::read(&manifest.write(&key()), &key(), PLACE);
    let right = a_manifest();
    assert_eq!(place(&right), Ok(right.clone()));
    for other in [
        Manifest { backup_id: "of an earlier attempt".into(), ..right.clone() },
        Manifest { backup_uid: "of another backup".into(), ..right.clone() },
        Manifest { instance: "duo".into(), ..right.clone() },
        Manifest { namespace: "other".into(), ..right.clone() },
    ] {
        assert_eq!(place(&other), Err(manifest::Error::Elsewhere), "{}", other.place());
    }
}

#[test]
fn another_password_another_format_and_rubbish_are_told_apart() {
    let text = a_manifest().write(&key());
    assert_eq!(Manifest::read(&text, &DataKey::derive(b"other", "1-2-3"), PLACE), Err(manifest::Error::Key));
    let newer = Manifest { format: 2, ..a_manifest() }.write(&key());
    assert_eq!(Manifest::read(&newer, &key(), PLACE), Err(manifest::Error::Format(2)));
    for rubbish in ["", "{}", "<html>", r#"{"backup": {}, "hmacSha256": ""}"#] {
        assert!(matches!(Manifest::read(rubbish.as_bytes(), &key(), PLACE), Err(manifest::Error::Unknown(_))));
    }
}
