//! Who comes in by TLS and what it may do then: every kind of certificate at every door, over real sockets.

mod administering;
mod authority;
mod connecting;
mod rotating;
mod spending;
mod world;
