//! Which ports a webhook may go to.

use std::ops::RangeInclusive;

/// Ports of protocols that can be made to misread an HTTP request as commands of their own, mail above all. Browsers
/// refuse the same ones: the "bad ports" of the Fetch standard.
const OTHER_PROTOCOLS: [u16; 82] = [
    1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109, 110,
    111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530, 531, 532,
    540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061,
    6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
];

/// The ports that endpoints may have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ports {
    /// Empty: every port but those of other protocols.
    only: Vec<RangeInclusive<u16>>,
}

impl Ports {
    pub fn only(ranges: Vec<RangeInclusive<u16>>) -> Ports {
        Ports { only: ranges }
    }

    /// `opened`: the host is an address that nobody reaches unless the operator opened its network. What listens there is
    /// the operator's own, so a list is needed to restrict its ports.
    pub fn permit(&self, port: u16, opened: bool) -> bool {
        match self.only.as_slice() {
            [] => opened || !OTHER_PROTOCOLS.contains(&port),
            only => only.iter().any(|range| range.contains(&port)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_list_every_port_is_allowed_but_those_of_other_protocols() {
        let any = Ports::default();
        for port in [80, 443, 444, 1024, 8080, 8443, 9443, 49_152, 65_535] {
            assert!(any.permit(port, false), "{port}");
        }
        for port in OTHER_PROTOCOLS {
            assert!(!any.permit(port, false) && any.permit(port, true), "{port}");
        }
        assert!(OTHER_PROTOCOLS.is_sorted() && OTHER_PROTOCOLS.contains(&25));
    }

    #[test]
    fn a_list_counts_everywhere_and_allows_what_it_names() {
        let some = Ports::only(vec![443..=443, 25..=25, 8000..=8999]);
        for (port, allowed) in
            [(443, true), (80, false), (7999, false), (8000, true), (8999, true), (9000, false), (25, true)]
        {
            assert_eq!((some.permit(port, false), some.permit(port, true)), (allowed, allowed), "{port}");
        }
    }
}
