//! What a transport passes on to the one that it wraps.

/// Methods of `libp2p::Transport` that are those of the transport in the named field.
macro_rules! forward {
    ($inner:tt: listen) => {
        fn listen_on(
            &mut self,
            id: libp2p::core::transport::ListenerId,
            address: libp2p::Multiaddr,
        ) -> Result<(), libp2p::TransportError<Self::Error>> {
            self.$inner.listen_on(id, address)
        }

        fn remove_listener(&mut self, id: libp2p::core::transport::ListenerId) -> bool {
            self.$inner.remove_listener(id)
        }
    };
    ($inner:tt: dial) => {
        fn dial(
            &mut self,
            address: libp2p::Multiaddr,
            options: libp2p::core::transport::DialOpts,
        ) -> Result<Self::Dial, libp2p::TransportError<Self::Error>> {
            self.$inner.dial(address, options)
        }
    };
    ($inner:tt: $first:tt, $($rest:tt),+) => {
        forward!($inner: $first);
        forward!($inner: $($rest),+);
    };
}

pub(super) use forward;
