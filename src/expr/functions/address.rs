//! Kubernetes' `ip` and `cidr` libraries.

use super::library::{Given, Library, Of, int, read, reads, text, truth, value, written};
use cel::common::types::{STRING_TYPE, Type};
use cel::common::value::CowVal;
use cel::{DeclarationError, Env, ExecutionError};
use core::net::IpAddr;
use std::fmt;

static IP: Type = Type::new_unspecified_type("ip");
static CIDR: Type = Type::new_unspecified_type("cidr");

impl Library for IpAddr {
    fn cel() -> &'static Type {
        &IP
    }

    fn same(&self, other: &Self) -> bool {
        self == other
    }

    fn read(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(IpAddr::V6(address)) if address.to_ipv4_mapped().is_some() => {
                Err("is an IPv4 address in an IPv6 one".to_owned())
            }
            Ok(address) => Ok(address),
            Err(_) => Err("is not an IP address".to_owned()),
        }
    }
}

/// An address and how many of its bits are the network's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cidr {
    address: IpAddr,
    bits: u8,
}

impl Cidr {
    /// The address with only its first bits.
    fn network(address: IpAddr, bits: u8) -> IpAddr {
        match address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0);
                IpAddr::V4((address.to_bits() & mask).into())
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
                IpAddr::V6((address.to_bits() & mask).into())
            }
        }
    }

    fn masked(self) -> Self {
        Self { address: Self::network(self.address, self.bits), ..self }
    }

    fn contains(self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4()
            && Self::network(address, self.bits) == self.masked().address
    }

    fn contains_network(self, other: Self) -> bool {
        self.bits <= other.bits && self.contains(other.address)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl Library for Cidr {
    fn cel() -> &'static Type {
        &CIDR
    }

    fn same(&self, other: &Self) -> bool {
        self == other
    }

    fn read(text: &str) -> Result<Self, String> {
        let wrong = || "is not a network such as \"10.0.0.0/8\"".to_owned();
        let (address, bits) = text.split_once('/').ok_or_else(wrong)?;
        let address = IpAddr::read(address).map_err(|_| wrong())?;
        let plain = bits == "0" || !bits.starts_with(['0', '+']);
        let bits: u8 = bits.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        if plain && bits <= most { Ok(Self { address, bits }) } else { Err(wrong()) }
    }
}

pub(super) fn register(env: &mut Env) -> Result<(), DeclarationError> {
    let (ip, cidr) = (|| IP.to_owned(), || CIDR.to_owned());
    env.add_overload("ip", "string_to_ip", vec![STRING_TYPE], read::<IpAddr>)?;
    env.add_overload("isIP", "is_ip", vec![STRING_TYPE], reads::<IpAddr>)?;
    env.add_overload("string", "ip_to_string", vec![ip()], written::<IpAddr>)?;
    env.add_overload("ip.isCanonical", "ip_is_canonical", vec![STRING_TYPE], |args| {
        let written = text(&args, 0)?;
        let address = IpAddr::read(written);
        let address = address
            .map_err(|why| ExecutionError::function_error("ip.isCanonical", format!("{written:?} {why}")))?;
        Ok(truth(address.to_string() == written))
    })?;
    env.add_member_overload("family", "ip_family", ip(), vec![], |args| {
        Ok(int(if value::<IpAddr>(&args, 0)?.is_ipv4() { 4 } else { 6 }))
    })?;
    env.add_member_overload("isUnspecified", "ip_is_unspecified", ip(), vec![], |args| {
        Ok(truth(value::<IpAddr>(&args, 0)?.is_unspecified()))
    })?;
    env.add_member_overload("isLoopback", "ip_is_loopback", ip(), vec![], |args| {
        Ok(truth(value::<IpAddr>(&args, 0)?.is_loopback()))
    })?;
    env.add_member_overload("isLinkLocalMulticast", "ip_is_llm", ip(), vec![], |args| {
        Ok(truth(is_link_local_multicast(value(&args, 0)?)))
    })?;
    env.add_member_overload("isLinkLocalUnicast", "ip_is_llu", ip(), vec![], |args| {
        Ok(truth(is_link_local(value(&args, 0)?)))
    })?;
    env.add_member_overload("isGlobalUnicast", "ip_is_global", ip(), vec![], |args| {
        Ok(truth(is_global(value(&args, 0)?)))
    })?;
    env.add_overload("cidr", "string_to_cidr", vec![STRING_TYPE], read::<Cidr>)?;
    env.add_overload("isCIDR", "is_cidr", vec![STRING_TYPE], reads::<Cidr>)?;
    env.add_overload("string", "cidr_to_string", vec![cidr()], written::<Cidr>)?;
    env.add_member_overload("ip", "cidr_ip", cidr(), vec![], |args| {
        Ok(CowVal::owned(Of(value::<Cidr>(&args, 0)?.address)))
    })?;
    env.add_member_overload("masked", "cidr_masked", cidr(), vec![], |args| {
        Ok(CowVal::owned(Of(value::<Cidr>(&args, 0)?.masked())))
    })?;
    env.add_member_overload("prefixLength", "cidr_prefix_length", cidr(), vec![], |args| {
        Ok(int(value::<Cidr>(&args, 0)?.bits.into()))
    })?;
    env.add_member_overload("containsIP", "cidr_contains_ip", cidr(), vec![ip()], |args| {
        Ok(truth(value::<Cidr>(&args, 0)?.contains(*value::<IpAddr>(&args, 1)?)))
    })?;
    env.add_member_overload("containsIP", "cidr_contains_ip_text", cidr(), vec![STRING_TYPE], |args| {
        Ok(truth(value::<Cidr>(&args, 0)?.contains(read_argument("containsIP", &args)?)))
    })?;
    env.add_member_overload("containsCIDR", "cidr_contains_cidr", cidr(), vec![cidr()], |args| {
        Ok(truth(value::<Cidr>(&args, 0)?.contains_network(*value::<Cidr>(&args, 1)?)))
    })?;
    env.add_member_overload("containsCIDR", "cidr_contains_text", cidr(), vec![STRING_TYPE], |args| {
        Ok(truth(value::<Cidr>(&args, 0)?.contains_network(read_argument("containsCIDR", &args)?)))
    })
}

fn read_argument<T: Library>(function: &str, args: &Given<'_, '_>) -> Result<T, ExecutionError> {
    let written = text(args, 1)?;
    T::read(written).map_err(|why| ExecutionError::function_error(function, format!("{written:?} {why}")))
}

fn is_link_local_multicast(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[..3] == [224, 0, 0],
        IpAddr::V6(address) => address.segments()[0] & 0xff0f == 0xff02,
    }
}

fn is_link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.segments()[0] & 0xffc0 == 0xfe80,
    }
}

/// As Go has it: private networks are among them.
fn is_global(address: &IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !broadcast
        && !address.is_unspecified()
        && !address.is_loopback()
        && !address.is_multicast()
        && !is_link_local(address)
}
