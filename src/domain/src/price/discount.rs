//! A part off a price.

use crate::money::{Price, parse_scaled};
use std::str::FromStr;

/// A hundred percent, in ten-thousandths of a percent.
const WHOLE: u32 = 1_000_000;

/// So much off a price: more than nothing and less than everything, in ten-thousandths of a percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discount(u32);

/// A text that is no discount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no discount: write a percentage above 0 and below 100, with at most four decimal places, such as 12.5"
)]
pub struct NoDiscount(pub String);

impl FromStr for Discount {
    type Err = NoDiscount;

    /// From percent, such as `15` or `12.5`.
    fn from_str(text: &str) -> Result<Self, NoDiscount> {
        let parts = parse_scaled(text, 4).ok().and_then(|parts| u32::try_from(parts).ok());
        parts.filter(|parts| (1..WHOLE).contains(parts)).map(Self).ok_or_else(|| NoDiscount(text.to_owned()))
    }
}

impl Discount {
    /// The rounding rule: a price that does not come out whole is rounded up, to the next pico-dollar.
    pub fn off(self, price: Price) -> Price {
        let left = u128::from(WHOLE.saturating_sub(self.0));
        let parts = u128::from(price.get()).saturating_mul(left);
        // Never more than the price was.
        Price::new(u64::try_from(parts.div_ceil(u128::from(WHOLE))).unwrap_or(price.get()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_discount_is_exact_and_rounded_up() {
        let table = [
            ("15", 3_000_000, 2_550_000),
            ("12.5", 1_000_000, 875_000),
            ("0.0001", 1_000_000, 999_999),
            ("99.9999", 1_000_000, 1),
            ("99.9999", 999_999, 1),
            ("33.3333", 100, 67),
            ("50", 1, 1),
            ("50", 3, 2),
            ("50", 0, 0),
            ("50", u64::MAX, u64::MAX / 2 + 1),
        ];
        for (percent, price, expected) in table {
            let discount: Discount = percent.parse().unwrap();
            assert_eq!(discount.off(Price::new(price)), Price::new(expected), "{percent} off {price}");
        }
    }

    #[test]
    fn what_is_no_discount_is_refused() {
        for text in ["0", "0.0", "100", "100.0001", "-5", "1e3", "0.00001", "", "ten", "15%", "99.99999"] {
            assert_eq!(text.parse::<Discount>(), Err(NoDiscount(text.to_owned())));
        }
    }
}
