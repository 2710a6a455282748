//! The signed option: its body as bytes with named fields, and its tag.
//!
//! The body is kept as it stands on the wire, because transit changes a few fields and passes the
//! rest on; in words, because the tag is taken over whole ones, and because the BPF back end
//! makes a dozen instructions of a field that is made of bytes.

use mizar_abi::{
    hash::Sip24,
    maps::Cfg,
    option::{BODY_LEN, Kind, STAMP_WINDOW, at},
    reason::Drop,
};

/// The body of the signed option.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Body([u32; BODY_LEN / 4]);

macro_rules! fields {
    ($($(#[$doc:meta])* $get:ident $set:ident: $kind:ident at $at:expr;)*) => { $(
        $(#[$doc])*
        #[inline(always)]
        pub const fn $get(&self) -> fields!(@type $kind) { fields!(@get $kind self, $at) }
        #[doc = concat!("Sets [`Body::", stringify!($get), "`].")]
        #[inline(always)]
        pub const fn $set(&mut self, value: fields!(@type $kind)) { fields!(@set $kind self, $at, value) }
    )* };
    (@type byte) => { u8 };
    (@type short) => { u16 };
    (@type four) => { [u8; 4] };
    (@type word) => { u32 };
    (@type long) => { u64 };
    (@get byte $b:expr, $at:expr) => { $b.part($at, 8) as u8 };
    (@get short $b:expr, $at:expr) => { $b.part($at, 16) as u16 };
    (@get four $b:expr, $at:expr) => { $b.0[$at / 4].to_ne_bytes() };
    (@get word $b:expr, $at:expr) => { $b.part($at, 32) };
    (@get long $b:expr, $at:expr) => { ($b.part($at, 32) as u64) << 32 | $b.part($at + 4, 32) as u64 };
    (@set byte $b:expr, $at:expr, $v:expr) => { $b.set_part($at, 8, $v as u32) };
    (@set short $b:expr, $at:expr, $v:expr) => { $b.set_part($at, 16, $v as u32) };
    (@set four $b:expr, $at:expr, $v:expr) => { $b.0[$at / 4] = u32::from_ne_bytes($v) };
    (@set word $b:expr, $at:expr, $v:expr) => { $b.0[$at / 4] = $v.to_be() };
    (@set long $b:expr, $at:expr, $v:expr) => {{
        $b.0[$at / 4] = (($v >> 32) as u32).to_be();
        $b.0[$at / 4 + 1] = ($v as u32).to_be();
    }};
}

impl Body {
    fields! {
        /// [`Kind`] as a number.
        kind_number set_kind_number: byte at at::KIND;
        /// Bits of [`mizar_abi::option::flag`].
        flags set_flags: byte at at::FLAGS;
        /// Hops left.
        hops set_hops: byte at at::HOPS;
        /// Id of the key that signed.
        key_id set_key_id: byte at at::KEY_ID;
        /// Underlay address of the first sender's host.
        origin set_origin: four at at::ORIGIN;
        /// Code of [`mizar_abi::option::code`]; REQ: number of tries before.
        reason set_reason: byte at at::REASON;
        /// Binds the packet to its flow.
        cookie set_cookie: word at at::COOKIE;
        /// Source port of the inner packet.
        sport set_sport: short at at::SPORT;
        /// Destination port of the inner packet.
        dport set_dport: short at at::DPORT;
        /// The sender's set of groups.
        identity set_identity: word at at::IDENTITY;
        /// Generation of the verdict.
        epoch set_epoch: word at at::EPOCH;
        /// Generation of the sender's binding.
        generation set_generation: word at at::HOST;
        /// RETURN: underlay address of the endpoint's new host. The same place as `generation`.
        new_host set_new_host: four at at::HOST;
        /// The destination's port number.
        ep_id set_ep_id: word at at::EP_ID;
        /// Seconds of UTC.
        stamp set_stamp: word at at::STAMP;
        /// SipHash-2-4.
        tag set_tag: long at at::TAG;
    }

    /// VNI of the first sender's network.
    #[inline(always)]
    pub const fn origin_vni(&self) -> u32 {
        self.part(at::ORIGIN_VNI, 24)
    }

    /// Sets [`Body::origin_vni`].
    #[inline(always)]
    pub const fn set_origin_vni(&mut self, vni: u32) {
        self.set_part(at::ORIGIN_VNI, 24, vni & 0xff_ffff);
    }

    /// What is asked; `None` for a reserved number.
    #[inline(always)]
    pub const fn kind(&self) -> Option<Kind> {
        Kind::from_wire(self.kind_number())
    }

    /// Sets [`Body::kind`].
    #[inline(always)]
    pub const fn set_kind(&mut self, kind: Kind) {
        self.set_kind_number(kind as u8);
    }

    /// As it stands on the wire.
    pub const fn bytes(&self) -> [u8; BODY_LEN] {
        let mut bytes = [0; BODY_LEN];
        let mut i = 0;
        while i < BODY_LEN {
            bytes[i] = self.0[i / 4].to_ne_bytes()[i % 4];
            i += 1;
        }
        bytes
    }

    /// From the wire.
    #[inline(always)]
    pub const fn from_bytes(bytes: &[u8; BODY_LEN]) -> Self {
        let mut words = [0; BODY_LEN / 4];
        let mut i = 0;
        while i < BODY_LEN {
            words[i / 4] = u32::from_ne_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
            i += 4;
        }
        Self(words)
    }

    /// `bits` bits in network order from byte `at` on, which end within its word.
    #[inline(always)]
    const fn part(&self, at: usize, bits: usize) -> u32 {
        u32::from_be(self.0[at / 4]) << (8 * (at % 4)) >> (32 - bits)
    }

    #[inline(always)]
    const fn set_part(&mut self, at: usize, bits: usize, value: u32) {
        let shift = 32 - bits - 8 * (at % 4);
        let mask = u32::MAX >> (32 - bits) << shift;
        self.0[at / 4] = self.0[at / 4] & !mask.to_be() | (value << shift).to_be();
    }

    /// Eight bytes as the tag takes them.
    #[inline(always)]
    const fn word(&self, at: usize) -> u64 {
        self.0[at / 4].to_le() as u64 | (self.0[at / 4 + 1].to_le() as u64) << 32
    }

    /// The three words that transit passes on as they came: of the body, and the inner addresses.
    #[inline(always)]
    const fn constant_words(&self, bound: &Bound) -> [u64; 3] {
        let addresses = u32::from_le_bytes(bound.src) as u64 | (u32::from_le_bytes(bound.dst) as u64) << 32;
        [self.word(8), self.word(16), addresses]
    }

    /// The tag under `key`, for a packet that `receiver` shall accept with this outer VNI and
    /// these inner addresses (zero in control packets without payload).
    ///
    /// The message, 55 bytes, as SipHash pads it: body[8..24], inner source, destination,
    /// body[24..32], body[0..8] with the protocol in place of the key's id (which the choice of key confirms),
    /// body[32..40], receiver's host, VNI. So it fills six words and the last seven bytes; and
    /// what transit changes comes last, so that it signs from where verification had come
    /// ([`Midstate`]). IPv6 will add its longer addresses, and differ by its length.
    #[inline(always)]
    pub fn tag_for(&self, key: &[u8; 16], bound: &Bound) -> u64 {
        self.tag_from(Midstate::begin(key, self.constant_words(bound)), bound)
    }

    #[inline(always)]
    fn tag_from(&self, begun: Sip24, bound: &Bound) -> u64 {
        const KEY_ID: u64 = 0xff << (8 * at::KEY_ID);
        let receiver = u32::from_le_bytes(bound.receiver) as u64;
        begun
            .word(self.word(24))
            .word(self.word(0) & !KEY_ID | (bound.proto as u64) << (8 * at::KEY_ID))
            .word(self.word(32))
            .finish(55, receiver | ((bound.vni << 8).swap_bytes() as u64) << 32)
    }

    /// Stamps and signs; false if there is no key.
    #[inline(always)]
    pub fn sign(&mut self, cfg: &Cfg, utc: u32, bound: &Bound) -> bool {
        self.sign_after(cfg, utc, bound, &Midstate::default())
    }

    /// The same for a packet that came signed: what was computed then is used, as far as it fits.
    #[inline(always)]
    pub fn sign_after(&mut self, cfg: &Cfg, utc: u32, bound: &Bound, verified: &Midstate) -> bool {
        let second = cfg.sign & 1 == 1;
        let (id, key) = if second { (cfg.key_ids[1], &cfg.keys[1]) } else { (cfg.key_ids[0], &cfg.keys[0]) };
        self.set_key_id(id);
        self.set_stamp(utc);
        let words = self.constant_words(bound);
        // Word by word: a comparison of arrays is a call, byte by byte.
        let [a, b, c] = verified.words;
        let [e, f, g] = words;
        let fits = verified.key_id == id as u64 && (a ^ e) | (b ^ f) | (c ^ g) == 0;
        let begun = if fits { verified.sip } else { Midstate::begin(key, words) };
        let tag = self.tag_from(begun, bound);
        self.set_tag(tag);
        id != 0
    }

    /// Checks tag and stamp. The tag first: only of a genuine stamp does it mean something that
    /// it is off.
    #[inline(always)]
    pub fn verify(&self, cfg: &Cfg, utc: u32, bound: &Bound) -> Result<(), Drop> {
        self.verify_noting(cfg, utc, bound, &mut Midstate::default())
    }

    /// The same, and notes how far the tag's computation is the same for the next receiver.
    #[inline(always)]
    pub fn verify_noting(&self, cfg: &Cfg, utc: u32, bound: &Bound, noted: &mut Midstate) -> Result<(), Drop> {
        let id = self.key_id();
        let key = if id == cfg.key_ids[0] {
            &cfg.keys[0]
        } else if id == cfg.key_ids[1] {
            &cfg.keys[1]
        } else {
            return Err(Drop::BadTag);
        };
        let words = self.constant_words(bound);
        *noted = Midstate { sip: Midstate::begin(key, words), words, key_id: id as u64 };
        if id == 0 || self.tag_from(noted.sip, bound) != self.tag() {
            return Err(Drop::BadTag);
        }
        let ahead = self.stamp().wrapping_sub(utc).wrapping_add(STAMP_WINDOW);
        if ahead > 2 * STAMP_WINDOW { Err(Drop::BadStamp) } else { Ok(()) }
    }
}

/// The hash after the words that do not change on a packet's way, and what it depends on. It is
/// used only for exactly these words under this key, so a stale one is merely useless.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Midstate {
    sip: Sip24,
    words: [u64; 3],
    /// 0 = none: no key has this id.
    key_id: u64,
}

impl Default for Midstate {
    fn default() -> Self {
        Self { sip: Sip24::new(&[0; 16]), words: [0; 3], key_id: 0 }
    }
}

impl Midstate {
    #[inline(always)]
    fn begin(key: &[u8; 16], words: [u64; 3]) -> Sip24 {
        let [a, b, c] = words;
        Sip24::new(key).word(a).word(b).word(c)
    }
}

/// What a tag is bound to beside the option.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Bound {
    /// Underlay address of the host that shall accept the packet.
    pub receiver: [u8; 4],
    /// Outer VNI.
    pub vni: u32,
    /// Inner source.
    pub src: [u8; 4],
    /// Inner destination.
    pub dst: [u8; 4],
    /// Inner protocol.
    pub proto: u8,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cfg() -> Cfg {
        Cfg { key_ids: [7, 6], keys: [core::array::from_fn(|i| i as u8), [9; 16]], ..Cfg::default() }
    }
    const BOUND: Bound =
        Bound { receiver: [172, 16, 0, 2], vni: 0x123456, src: [10, 0, 0, 1], dst: [10, 0, 0, 2], proto: 6 };

    fn signed() -> Body {
        let mut body = Body::default();
        body.set_kind(Kind::Req);
        body.set_origin([172, 16, 0, 1]);
        body.set_origin_vni(0x123456);
        body.set_cookie(0xdead_beef);
        body.set_sport(1234);
        body.set_dport(80);
        assert!(body.sign(&cfg(), 1_000_000, &BOUND));
        body
    }

    fn with_byte(body: &Body, at: usize, bits: u8) -> Body {
        let mut bytes = body.bytes();
        bytes[at] ^= bits;
        Body::from_bytes(&bytes)
    }

    /// Hosts of different versions exchange these: a change needs a new option type. The value was
    /// computed by a second implementation, in Python, over the 55 bytes of the message.
    #[test]
    fn tags_never_change() {
        assert_eq!(signed().tag(), VECTOR, "{:#x}", signed().tag());
    }
    const VECTOR: u64 = 0x4be7_ae5c_cf94_7d09;

    #[test]
    fn fields_stand_where_the_layout_says() {
        let body = signed();
        assert_eq!(
            body.bytes()[..20],
            [1, 0, 0, 7, 172, 16, 0, 1, 0x12, 0x34, 0x56, 0, 0xde, 0xad, 0xbe, 0xef, 4, 210, 0, 80]
        );
        assert_eq!((body.kind(), body.origin_vni(), body.stamp()), (Some(Kind::Req), 0x123456, 1_000_000));
    }

    #[test]
    fn any_changed_byte_is_refused() {
        for at in 0..BODY_LEN {
            let body = with_byte(&signed(), at, 1);
            assert_eq!(body.verify(&cfg(), 1_000_000, &BOUND), Err(Drop::BadTag), "byte {at}");
        }
    }

    #[test]
    fn a_tag_pasted_on_another_packet_is_refused() {
        let body = signed();
        assert_eq!(body.verify(&cfg(), 1_000_000, &BOUND), Ok(()));
        for other in [
            Bound { receiver: [172, 16, 0, 3], ..BOUND },
            Bound { vni: 0x123457, ..BOUND },
            Bound { src: [10, 0, 0, 3], ..BOUND },
            Bound { dst: [10, 0, 0, 3], ..BOUND },
            Bound { proto: 17, ..BOUND },
        ] {
            assert_eq!(body.verify(&cfg(), 1_000_000, &other), Err(Drop::BadTag), "{other:?}");
        }
    }

    #[test]
    fn a_stamp_counts_five_seconds_either_way() {
        for (now, expected) in
            [(1_000_005, Ok(())), (999_995, Ok(())), (1_000_006, Err(Drop::BadStamp)), (999_994, Err(Drop::BadStamp))]
        {
            assert_eq!(signed().verify(&cfg(), now, &BOUND), expected, "at {now}");
        }
    }

    /// Whatever transit changes, and whatever was noted of this or another packet.
    #[test]
    fn signing_from_a_midstate_equals_signing_from_nothing() {
        let mut noted = Midstate::default();
        assert_eq!(signed().verify_noting(&cfg(), 1_000_000, &BOUND, &mut noted), Ok(()));
        for at in 0..40 {
            for (cfg, bound) in [
                (cfg(), BOUND),
                (cfg(), Bound { receiver: [1; 4], ..BOUND }),
                (cfg(), Bound { dst: [9; 4], vni: 9, ..BOUND }),
                (Cfg { sign: 1, ..cfg() }, BOUND),
            ] {
                let mut after = with_byte(&signed(), at, 0x55);
                let mut plain = after;
                assert!(after.sign_after(&cfg, 1_000_003, &bound, &noted) && plain.sign(&cfg, 1_000_003, &bound));
                assert_eq!(after, plain, "byte {at}");
            }
        }
    }

    #[test]
    fn the_former_key_is_accepted_and_no_key_never() {
        let mut rotated = cfg();
        rotated.key_ids = [8, 7];
        rotated.keys = [[1; 16], cfg().keys[0]];
        assert_eq!(signed().verify(&rotated, 1_000_000, &BOUND), Ok(()));
        rotated.key_ids = [8, 0];
        assert_eq!(signed().verify(&rotated, 1_000_000, &BOUND), Err(Drop::BadTag));
        let mut body = Body::default();
        assert!(!body.sign(&Cfg::default(), 1, &BOUND), "without a key nothing is signed");
        assert_eq!(body.verify(&Cfg::default(), 1, &BOUND), Err(Drop::BadTag));
    }
}
