//! Why packets are dropped, and what else is counted. Names are part of the product: they stand
//! in metrics, in the API and in the operator's manual, so they are never reused.

macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident { $($(#[doc = $about:literal])* $variant:ident = $number:literal $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum $name { $($(#[doc = $about])* $variant = $number,)* }
        impl $name {
            /// Every one of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            /// The name that users see.
            pub const fn name(self) -> &'static str { match self { $(Self::$variant => $text,)* } }
            /// What it means: its documentation.
            pub const fn about(self) -> &'static str { match self { $(Self::$variant => concat!($($about),*).trim_ascii(),)* } }
            /// The one with this number.
            pub const fn from_number(number: u32) -> Option<Self> { match number { $($number => Some(Self::$variant),)* _ => None } }
        }
    };
}

numbered! {
    /// Why a packet was dropped. Counted per port in map DROPS (port 0: not known).
    Drop {
        /// The interface belongs to no port.
        NoPort = 1 "no_port",
        /// Source MAC or address is not the port's.
        Spoof = 2 "spoof",
        /// Neither IPv4 nor ARP.
        NotIp = 3 "not_ip",
        /// Multicast or broadcast.
        Multicast = 4 "multicast",
        /// Larger than the port's MTU; the sender was told where DF allows it.
        TooBig = 5 "too_big",
        /// Headers shorter than they say, or otherwise malformed.
        Malformed = 6 "malformed",
        /// A fragment whose first part was not seen.
        FragNoHead = 7 "frag_no_head",
        /// An ICMP error about no known flow.
        IcmpNoFlow = 8 "icmp_no_flow",
        /// No route in this network; the sender was told.
        NoRoute = 9 "no_route",
        /// TTL ran out at a router; the sender was told.
        TtlExceeded = 10 "ttl_exceeded",
        /// No transit host is known for the destination.
        NoTransit = 11 "no_transit",
        /// The flow was denied within the last second.
        FlowDenied = 12 "flow_denied",
        /// No endpoint has the destination address.
        Unreachable = 13 "unreachable",
        /// The option's tag, key or stamp's signature is wrong.
        BadTag = 14 "bad_tag",
        /// The option's stamp is outside the window: a clock is off, or a replay.
        BadStamp = 15 "bad_stamp",
        /// Geneve version, length or an unknown critical option.
        BadGeneve = 16 "bad_geneve",
        /// Too many bounces and returns.
        Loop = 17 "loop",
        /// A reply-only packet without its flow.
        NoFlow = 18 "no_flow",
        /// A control packet whose cookie does not fit its flow.
        BadCookie = 19 "bad_cookie",
        /// No such endpoint here, and nobody to send the packet on to.
        NoEndpoint = 20 "no_endpoint",
        /// Packets of the port come back faster than its token bucket for new flows.
        ReturnRate = 21 "return_rate",
        /// The port makes or gets new flows faster than its token bucket.
        FlowRate = 22 "flow_rate",
        /// A kernel helper failed.
        Helper = 23 "helper",
        /// A kind that this version does not act on.
        UnknownKind = 24 "unknown_kind",
        /// Denied by policy.
        Policy = 25 "policy",
        /// A policy verdict stayed unconfirmed for over a second, or nobody knew the rules to judge by.
        PolicyUnconfirmed = 26 "policy_unconfirmed",
        /// A host number without a known underlay address.
        NoHost = 27 "no_host",
        /// The interface is administratively down.
        AdminDown = 28 "admin_down",
        /// A DHCP or other local frame handed to the agent (not a loss).
        ToAgent = 29 "to_agent",
        /// An ARP probe, an announcement, or a question about the port's own address: nobody answers.
        ArpIgnored = 30 "arp_ignored",
        /// A frame for the agent that it was not told of: the port raises events faster than its
        /// token bucket, or the ring is full.
        EventLost = 31 "event_lost",
        /// The port's ingress policy does not let the packet in: a bouncer of its address, or its host, refused it.
        Refused = 32 "refused",
        /// The port sends more datagrams in fragments than its token bucket has room for.
        FragRate = 33 "frag_rate",
    }
}

numbered! {
    /// What a host did with packets. Index into per-CPU array COUNTERS.
    Counter {
        /// Sent straight to the peer's host.
        DirectOut = 0 "direct_out",
        /// Received straight from the peer's host.
        DirectIn = 1 "direct_in",
        /// Delivered between two endpoints of this host.
        Local = 2 "local",
        /// Requests sent for local endpoints.
        RequestOut = 3 "request_out",
        /// Requests answered as a bouncer.
        Bounced = 4 "bounced",
        /// Requests passed on as a divider.
        Divided = 5 "divided",
        /// Requests passed on to the other replica of a shard.
        Sibling = 6 "sibling",
        /// Admitted packets received.
        AdmittedIn = 7 "admitted_in",
        /// Replies sent with an acknowledgement.
        AckOut = 8 "ack_out",
        /// Acknowledgements received.
        AckIn = 9 "ack_in",
        /// Packets turned around.
        ReturnOut = 10 "return_out",
        /// Packets that came back and were asked for again.
        ReturnIn = 11 "return_in",
        /// Denials sent.
        DeniedOut = 12 "denied_out",
        /// Denials received.
        DeniedIn = 13 "denied_in",
        /// Packets for an endpoint that moved away, sent on.
        MovedOn = 14 "moved_on",
        /// Probes answered.
        Probe = 15 "probe",
        /// Probe replies received.
        ProbeReply = 16 "probe_reply",
        /// Transit done in XDP.
        TransitXdp = 17 "transit_xdp",
        /// Transit done in tcx.
        TransitTcx = 18 "transit_tcx",
        /// Transit done on the sender's own host.
        TransitInline = 19 "transit_inline",
        /// ARP questions answered.
        Arp = 20 "arp",
        /// Events that the agent was not told of, of any kind.
        EventLost = 21 "event_lost",
        /// Requests that policy does not allow, passed on in case that they are replies.
        ReplyOnly = 22 "reply_only",
        /// Requests that came back with the destination's identity.
        Identified = 23 "identified",
        /// Questions about flows answered as a bouncer.
        AskAnswered = 24 "ask_answered",
        /// Answers received.
        AnswerIn = 25 "answer_in",
        /// Verdicts of an outdated policy sent back.
        Outdated = 26 "outdated",
        /// Flows that were to be logged and are not: their port begins flows faster than its token bucket for the
        /// log, or the ring is full.
        FlowLogLost = 27 "flow_log_lost",
    }
}

impl Counter {
    /// Entries of map COUNTERS.
    pub const SIZE: u32 = 32;
}
