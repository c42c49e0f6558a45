//! Where a sender is: what all counts by address go by.

use std::net::IpAddr;

/// The address itself, or the network of 64 bits that it is in: one sender can have as many addresses as he likes of an IPv6
/// network of his own.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => IpAddr::V6((six.to_bits() >> 64 << 64).into()),
        four @ IpAddr::V4(_) => four,
    }
}

/// What counts as one sender, for a person: `192.0.2.1`, `2001:db8:1:2::/64`.
pub fn shown(address: IpAddr) -> String {
    match network(address) {
        IpAddr::V6(six) => format!("{six}/64"),
        IpAddr::V4(four) => four.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_64_bits_is_one() {
        for (address, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ] {
            assert_eq!(shown(address.parse().expect("an address")), expected);
        }
    }
}
