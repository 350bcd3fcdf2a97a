//! Multiaddr text and byte forms of the control socket.
