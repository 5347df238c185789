//! Codes: the bit order that outsiders rely on, the written forms, and the laws of distance.

use bitvec::order::Msb0;
use bitvec::view::BitView;
use nearbit::code::{ball_size, ring_size};
use nearbit::{Code, Codes, Error, Width};
use proptest::prelude::*;

fn width(bits: usize) -> Width {
    Width::new(bits).unwrap()
}

/// Codes of one width, of every width that is an edge somewhere.
fn codes_of_a_width(n: usize) -> impl Strategy<Value = Vec<Code>> {
    const EDGES: [usize; 17] =
        [1, 7, 8, 9, 31, 32, 33, 63, 64, 65, 127, 128, 129, 256, 1000, 1023, 1024];
    proptest::sample::select(&EDGES[..]).prop_flat_map(move |bits| {
        let one = proptest::collection::vec(any::<bool>(), bits).prop_map(|bits| {
            let digits = bits.iter().map(|&b| if b { '1' } else { '0' }).collect::<String>();
            Code::parse(&format!("0b{digits}"), width(bits.len())).unwrap()
        });
        proptest::collection::vec(one, n)
    })
}

/// Every code of a small width.
fn all_codes(bits: usize) -> Vec<Code> {
    (0..1u64 << bits).map(|n| Code::from_words(width(bits), &[n << (64 - bits)]).unwrap()).collect()
}

/// The rule, and what numpy's `packbits([0,1,0,1,1,0,1,0, 0,0,0,1])` gives.
#[test]
fn bit_order_is_that_of_packbits() {
    let code = Code::parse("0b010110100001", width(12)).unwrap();
    let bytes = code.to_bytes();
    assert_eq!(bytes, [0x5a, 0x10]);
    for i in 0..12 {
        assert_eq!(code.bit(i), bytes[i / 8] >> (7 - i % 8) & 1 == 1, "bit {i}");
    }
    assert_eq!(code.to_bits(), bytes.view_bits::<Msb0>()[..12].to_bitvec());
    assert_eq!(code.words(), [0x5a10 << 48]);
}

#[test]
fn bits_beyond_the_width_are_refused() {
    for (bits, bytes) in [(12, vec![0x5a, 0x11]), (1, vec![0x40]), (65, [[0; 8], [1; 8]].concat())]
    {
        let short = &bytes[..width(bits).bytes()];
        let error = Code::from_bytes(width(bits), short).unwrap_err().to_string();
        assert!(error.contains(&format!("beyond the first {bits}")), "{error}");
    }
    let error = Codes::from_bytes(width(4), &[0xf0, 0x0f]).unwrap_err().to_string();
    assert!(error.starts_with("row 1: code"), "{error}");
}

#[test]
fn widths_are_1_to_1024() {
    assert!(Width::new(0).is_err());
    assert!(Width::new(1025).is_err());
    assert_eq!((width(1).bytes(), width(1).words()), (1, 1));
    assert_eq!((width(1024).bytes(), width(1024).words()), (128, 16));
}

#[test]
fn text_that_is_no_code_says_what_was_expected() {
    let of = |text| Code::parse(text, width(16)).unwrap_err().to_string();
    for text in ["", "abc", "zzzz", "0b0101", "0b010101010101010x", "5a105a", "äöüß"] {
        let error = of(text);
        assert!(error.contains("expected") && error.contains("got"), "{text:?}: {error}");
    }
}

/// At 16 bits, four characters are hexadecimal or base64 of two bytes: the `=` decides.
#[test]
fn hexadecimal_and_base64_are_not_confused() {
    assert_eq!(Code::parse("abcd", width(16)).unwrap().to_bytes(), [0xab, 0xcd]);
    assert_eq!(Code::parse("q80=", width(16)).unwrap().to_bytes(), [0xab, 0xcd]);
    assert_eq!(Code::parse("0b01", width(16)).unwrap().to_bytes(), [0x0b, 0x01]);
    assert_eq!(Code::parse("ABCDEF01", width(32)).unwrap().to_bytes(), [0xab, 0xcd, 0xef, 1]);
}

#[test]
fn rings_have_binomial_size_and_one_distance() {
    for bits in 1..=10 {
        let center = all_codes(bits).pop().unwrap();
        for radius in 0..=bits + 1 {
            let ring: Vec<Code> = center.ring(radius).collect();
            assert_eq!(ring.len() as u64, ring_size(width(bits), radius));
            assert!(ring.iter().all(|code| center.distance(code) as usize == radius));
            let mut distinct = ring.clone();
            distinct.sort();
            distinct.dedup();
            assert_eq!(distinct.len(), ring.len());
        }
    }
}

#[test]
fn ring_sizes_are_exact_until_they_do_not_fit() {
    assert_eq!(ball_size(width(32), 2), 529);
    assert_eq!(ball_size(width(64), 3), 43_745);
    assert_eq!(ring_size(width(64), 32), 1_832_624_140_942_590_534);
    assert_eq!(ring_size(width(1024), 1023), 1024);
    assert_eq!(ring_size(width(1024), 512), u64::MAX);
    assert_eq!(ball_size(width(1024), 1024), u64::MAX);
}

proptest! {
    #[test]
    fn distance_is_a_metric(codes in codes_of_a_width(3)) {
        let [a, b, c] = &codes[..] else { unreachable!() };
        prop_assert_eq!(a.distance(b), b.distance(a));
        prop_assert_eq!(a.distance(a), 0);
        prop_assert!((a.distance(b) == 0) == (a == b));
        prop_assert!(a.distance(c) <= a.distance(b) + b.distance(c));
        let naive = (0..a.width().bits()).filter(|&i| a.bit(i) != b.bit(i)).count();
        prop_assert_eq!(a.distance(b) as usize, naive);
    }

    #[test]
    fn every_written_form_reads_back(codes in codes_of_a_width(1)) {
        let code = &codes[0];
        for text in [code.to_hex(), code.to_base64(), code.to_binary(), code.to_hex().to_uppercase()] {
            prop_assert_eq!(&Code::parse(&text, code.width()).unwrap(), code);
        }
        prop_assert_eq!(&Code::from_bytes(code.width(), &code.to_bytes()).unwrap(), code);
        prop_assert_eq!(&Code::from_bits(&code.to_bits()).unwrap(), code);
    }

    #[test]
    fn order_is_that_of_bytes(codes in codes_of_a_width(2)) {
        prop_assert_eq!(codes[0].cmp(&codes[1]), codes[0].to_bytes().cmp(&codes[1].to_bytes()));
    }

    #[test]
    fn packed_codes_read_back(codes in codes_of_a_width(5)) {
        let mut packed = Codes::new(codes[0].width());
        codes.iter().for_each(|code| packed.push(code).unwrap());
        let again = Codes::from_bytes(packed.width(), &packed.to_bytes()).unwrap();
        prop_assert_eq!(&again, &packed);
        prop_assert!((0..5).all(|i| again.get(i) == codes[i]));
    }

    #[test]
    fn a_ball_is_what_a_scan_of_all_codes_finds(bits in 1usize..=9, n: u64, radius in 0usize..=10) {
        let center = Code::from_words(width(bits), &[n << (64 - bits)]).unwrap();
        let mut ball: Vec<Code> = center.ball(radius).collect();
        prop_assert!(ball.is_sorted_by_key(|code| center.distance(code)));
        prop_assert_eq!(ball.len() as u64, ball_size(width(bits), radius));
        ball.sort();
        let mut all = all_codes(bits);
        all.retain(|code| center.distance(code) as usize <= radius);
        prop_assert_eq!(ball, all);
    }

    #[test]
    fn any_bytes_are_a_code_or_an_error(bits in 1usize..=1024, bytes: Vec<u8>, text: String) {
        for result in [Code::from_bytes(width(bits), &bytes), Code::parse(&text, width(bits))] {
            match result {
                Ok(code) => prop_assert_eq!(code.width(), width(bits)),
                Err(error) => {
                    let invalid = matches!(error, Error::Invalid { .. });
                    prop_assert!(invalid, "{}", error);
                }
            }
        }
    }
}
