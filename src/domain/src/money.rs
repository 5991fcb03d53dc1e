//! Money as integers, and the one place where it is rounded.
//!
//! Amounts are nano-dollars: an `i64` holds nine thousand million dollars, and one request costs at least some
//! hundred of them. Prices are pico-dollars per token, because the cheapest cached token costs a few thousand.
//! A cost is summed in pico-dollars over everything that one request used and rounded **up once**, to the next
//! nano-dollar ([`Picodollars::round_up`]); nothing else in Tollgate rounds.

use std::fmt;
use std::str::FromStr;

/// Why a text is not an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// Not a decimal number.
    #[error("is not a decimal number")]
    NotANumber,
    /// More decimal places than the unit has.
    #[error("has more decimal places than the smallest unit")]
    TooFine,
    /// Beyond what the type holds.
    #[error("is out of range")]
    OutOfRange,
}

/// An arithmetic result that does not fit its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an amount is out of range")]
pub struct Overflow;

/// An amount of money in nano-dollars (10⁻⁹ USD). May be negative: a correction is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanodollars(i64);

impl Nanodollars {
    /// No money.
    pub const ZERO: Self = Self(0);
    /// The largest amount, about 9.2 thousand million dollars.
    pub const MAX: Self = Self(i64::MAX);
    /// Decimal places of a dollar.
    const SCALE: u32 = 9;

    /// An amount of `nanodollars`.
    pub const fn new(nanodollars: i64) -> Self {
        Self(nanodollars)
    }

    /// The amount in nano-dollars.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// `self + other`.
    ///
    /// # Errors
    /// [`Overflow`] beyond `i64`.
    pub fn plus(self, other: Self) -> Result<Self, Overflow> {
        self.0.checked_add(other.0).map(Self).ok_or(Overflow)
    }

    /// `self - other`.
    ///
    /// # Errors
    /// [`Overflow`] beyond `i64`.
    pub fn minus(self, other: Self) -> Result<Self, Overflow> {
        self.0.checked_sub(other.0).map(Self).ok_or(Overflow)
    }
}

/// Dollars in, as decimal text: `"100"`, `"0.1"`, `"1e2"`. Exact, or an error.
impl FromStr for Nanodollars {
    type Err = DecimalError;

    fn from_str(text: &str) -> Result<Self, DecimalError> {
        let scaled = parse_scaled(text, Self::SCALE)?;
        i64::try_from(scaled).map(Self).map_err(|_| DecimalError::OutOfRange)
    }
}

/// Dollars out, as the shortest decimal text that is exact: `12.5`, `0.000000001`, `-3`.
impl fmt::Display for Nanodollars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_scaled(f, i128::from(self.0), Self::SCALE)
    }
}

/// A price in pico-dollars (10⁻¹² USD) per unit: per token, or per web search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Price(u64);

impl Price {
    /// A price of `picodollars` a unit.
    pub const fn new(picodollars: u64) -> Self {
        Self(picodollars)
    }

    /// Pico-dollars a unit.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// From dollars per million units, as price lists print them: `"3"` is 3,000,000 pico-dollars a token.
    ///
    /// # Errors
    /// [`DecimalError`] for text that is no decimal, negative, or finer than a pico-dollar a unit.
    pub fn from_dollars_per_million(text: &str) -> Result<Self, DecimalError> {
        Self::from_scaled(text, 6)
    }

    /// From dollars per unit: `"0.01"` a web search is 10,000,000,000 pico-dollars.
    ///
    /// # Errors
    /// As [`Price::from_dollars_per_million`].
    pub fn from_dollars(text: &str) -> Result<Self, DecimalError> {
        Self::from_scaled(text, 12)
    }

    /// Undoes [`from_dollars_per_million`](Self::from_dollars_per_million).
    pub fn to_dollars_per_million(self) -> String {
        Scale(self.0.into(), 6).to_string()
    }

    /// Undoes [`from_dollars`](Self::from_dollars).
    pub fn to_dollars(self) -> String {
        Scale(self.0.into(), 12).to_string()
    }

    fn from_scaled(text: &str, scale: u32) -> Result<Self, DecimalError> {
        let scaled = parse_scaled(text, scale)?;
        u64::try_from(scaled).map(Self).map_err(|_| DecimalError::OutOfRange)
    }

    /// The cost of `units` at this price. Exact: two `u64` always fit the product.
    pub fn times(self, units: u64) -> Picodollars {
        Picodollars(u128::from(self.0).saturating_mul(u128::from(units)))
    }
}

/// A factor on the token cost in thousandths: 1.1 for a region is 1100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Multiplier(u32);

impl Multiplier {
    /// Changes nothing.
    pub const ONE: Self = Self(1000);

    /// The factor in thousandths.
    pub const fn thousandths(self) -> u32 {
        self.0
    }
}

impl FromStr for Multiplier {
    type Err = DecimalError;

    fn from_str(text: &str) -> Result<Self, DecimalError> {
        let scaled = parse_scaled(text, 3)?;
        u32::try_from(scaled).map(Self).map_err(|_| DecimalError::OutOfRange)
    }
}

/// An exact, unrounded cost in pico-dollars (10⁻¹² USD).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Picodollars(u128);

impl Picodollars {
    /// No cost.
    pub const ZERO: Self = Self(0);

    /// `self + other`.
    ///
    /// # Errors
    /// [`Overflow`] beyond `u128`.
    pub fn plus(self, other: Self) -> Result<Self, Overflow> {
        self.0.checked_add(other.0).map(Self).ok_or(Overflow)
    }

    /// The product with every factor, still unrounded: the result counts thousandths to the power of the
    /// number of factors, and [`Scaled::plus`] and [`Scaled::round_up`] keep account of that.
    ///
    /// # Errors
    /// [`Overflow`] beyond `u128`.
    pub fn scaled(self, factors: &[Multiplier]) -> Result<Scaled, Overflow> {
        let mut scaled = Scaled { numerator: self.0, denominator: 1 };
        for factor in factors.iter().filter(|factor| **factor != Multiplier::ONE) {
            scaled.numerator = scaled.numerator.checked_mul(u128::from(factor.0)).ok_or(Overflow)?;
            scaled.denominator = scaled.denominator.checked_mul(1000).ok_or(Overflow)?;
        }
        Ok(scaled)
    }

    /// The rounding rule: up, to the next whole nano-dollar, once for each request.
    ///
    /// # Errors
    /// [`Overflow`] beyond the nano-dollars of an `i64`.
    pub fn round_up(self) -> Result<Nanodollars, Overflow> {
        Scaled { numerator: self.0, denominator: 1 }.round_up()
    }
}

/// A cost times factors, as an exact fraction of a pico-dollar.
#[derive(Clone, Copy, Debug)]
pub struct Scaled {
    numerator: u128,
    denominator: u128,
}

impl Scaled {
    /// No cost.
    pub const ZERO: Self = Self { numerator: 0, denominator: 1 };

    /// Adds a cost with factors of its own, exactly.
    ///
    /// # Errors
    /// [`Overflow`] beyond `u128`.
    pub fn plus_scaled(self, other: Self) -> Result<Self, Overflow> {
        // Both denominators are powers of 1000: the larger is a multiple of the smaller.
        let denominator = self.denominator.max(other.denominator);
        let widen = |part: Self| {
            let factor = denominator.checked_div(part.denominator)?;
            part.numerator.checked_mul(factor)
        };
        let sum = widen(self).zip(widen(other)).and_then(|(a, b)| a.checked_add(b));
        sum.map(|numerator| Self { numerator, denominator }).ok_or(Overflow)
    }

    /// Adds a cost that the factors do not touch.
    ///
    /// # Errors
    /// [`Overflow`] beyond `u128`.
    pub fn plus(self, other: Picodollars) -> Result<Self, Overflow> {
        let other = other.0.checked_mul(self.denominator).ok_or(Overflow)?;
        let numerator = self.numerator.checked_add(other).ok_or(Overflow)?;
        Ok(Self { numerator, ..self })
    }

    /// The rounding rule of [`Picodollars::round_up`] on the fraction.
    ///
    /// # Errors
    /// [`Overflow`] beyond the nano-dollars of an `i64`.
    pub fn round_up(self) -> Result<Nanodollars, Overflow> {
        let picodollars_per_nanodollar = self.denominator.checked_mul(1000).ok_or(Overflow)?;
        let nanodollars = self.numerator.div_ceil(picodollars_per_nanodollar);
        i64::try_from(nanodollars).map(Nanodollars).map_err(|_| Overflow)
    }
}

/// Decimal places and exponents beyond this are absurd for money, and would only cost time.
const EXPONENT_MAX: i64 = 100;

/// Parses a decimal (JSON's grammar, and a leading `+` or zeros) as an integer of 10^-`scale` units.
pub(crate) fn parse_scaled(text: &str, scale: u32) -> Result<i128, DecimalError> {
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, text.get(1..)),
        Some(b'+') => (false, text.get(1..)),
        _ => (false, Some(text)),
    };
    let unsigned = unsigned.ok_or(DecimalError::NotANumber)?;
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((_, "")) => return Err(DecimalError::NotANumber),
        Some(parts) => parts,
        None => (mantissa, ""),
    };
    let digits = || whole.bytes().chain(fraction.bytes());
    if whole.is_empty() || !digits().all(|b| b.is_ascii_digit()) {
        return Err(DecimalError::NotANumber);
    }
    let fraction_places = i64::try_from(fraction.len()).map_err(|_| DecimalError::OutOfRange)?;
    let shift = i64::from(scale).saturating_add(exponent).saturating_sub(fraction_places);
    let magnitude = shift_digits(digits(), shift)?;
    Ok(if negative { magnitude.saturating_neg() } else { magnitude })
}

fn parse_exponent(text: &str) -> Result<i64, DecimalError> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(DecimalError::NotANumber);
    }
    let exponent: i64 = text.parse().map_err(|_| DecimalError::OutOfRange)?;
    if exponent.abs() > EXPONENT_MAX { Err(DecimalError::OutOfRange) } else { Ok(exponent) }
}

/// The digits as a number, times 10^`shift`; digits that a negative shift cuts off must be zeros.
fn shift_digits(digits: impl Iterator<Item = u8> + Clone, shift: i64) -> Result<i128, DecimalError> {
    let count = i64::try_from(digits.clone().count()).map_err(|_| DecimalError::OutOfRange)?;
    let kept = if shift < 0 { count.saturating_add(shift).max(0) } else { count };
    let mut value: i128 = 0;
    for (place, digit) in digits.enumerate() {
        let digit = digit.wrapping_sub(b'0');
        if i64::try_from(place).is_ok_and(|place| place < kept) {
            let next = value.checked_mul(10).and_then(|v| v.checked_add(i128::from(digit)));
            value = next.ok_or(DecimalError::OutOfRange)?;
        } else if digit != 0 {
            return Err(DecimalError::TooFine);
        }
    }
    if value != 0 && shift > 0 {
        let shift = u32::try_from(shift).map_err(|_| DecimalError::OutOfRange)?;
        let factor = 10_i128.checked_pow(shift).ok_or(DecimalError::OutOfRange)?;
        value = value.checked_mul(factor).ok_or(DecimalError::OutOfRange)?;
    }
    Ok(value)
}

/// A number of 10^-scale units, as a decimal.
struct Scale(i128, u32);

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_scaled(f, self.0, self.1)
    }
}

fn write_scaled(f: &mut fmt::Formatter<'_>, value: i128, scale: u32) -> fmt::Result {
    let unit = 10_u128.saturating_pow(scale);
    let magnitude = value.unsigned_abs();
    let (whole, fraction) =
        (magnitude.checked_div(unit).unwrap_or(0), magnitude.checked_rem(unit).unwrap_or(0));
    let sign = if value < 0 { "-" } else { "" };
    if fraction == 0 {
        return write!(f, "{sign}{whole}");
    }
    let places = format!("{fraction:0width$}", width = usize::try_from(scale).unwrap_or(0));
    write!(f, "{sign}{whole}.{}", places.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts_are_read_exactly_or_not_at_all() {
        use DecimalError::*;
        let table = [
            ("100", Ok(100_000_000_000)),
            ("0.1", Ok(100_000_000)),
            ("+0.10", Ok(100_000_000)),
            ("-0", Ok(0)),
            ("1e2", Ok(100_000_000_000)),
            ("1.5E-3", Ok(1_500_000)),
            ("0.000000001", Ok(1)),
            ("0.0000000010", Ok(1)),
            ("0.0000000001", Err(TooFine)),
            ("1e-10", Err(TooFine)),
            ("9223372036.854775807", Ok(i64::MAX)),
            ("9223372036.854775808", Err(OutOfRange)),
            ("-9223372036.854775808", Ok(i64::MIN)),
            ("1e400", Err(OutOfRange)),
            ("0e400", Err(OutOfRange)),
            ("1e99999999999999999999", Err(OutOfRange)),
            ("99999999999999999999999999999999999999999999", Err(OutOfRange)),
            ("", Err(NotANumber)),
            ("-", Err(NotANumber)),
            (".5", Err(NotANumber)),
            ("5.", Err(NotANumber)),
            ("abc", Err(NotANumber)),
            ("NaN", Err(NotANumber)),
            ("Infinity", Err(NotANumber)),
            ("1e", Err(NotANumber)),
            ("1 ", Err(NotANumber)),
            ("1_000", Err(NotANumber)),
            ("٣", Err(NotANumber)),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse::<Nanodollars>().map(Nanodollars::get), expected, "{text}");
        }
    }

    #[test]
    fn prices_are_read_in_the_units_of_price_lists() {
        assert_eq!(Price::from_dollars_per_million("3"), Ok(Price::new(3_000_000)));
        assert_eq!(Price::from_dollars_per_million("0.0375"), Ok(Price::new(37_500)));
        assert_eq!(Price::from_dollars_per_million("0.0000001"), Err(DecimalError::TooFine));
        assert_eq!(Price::from_dollars_per_million("-1"), Err(DecimalError::OutOfRange));
        assert_eq!(Price::from_dollars("0.01"), Ok(Price::new(10_000_000_000)));
    }

    #[test]
    fn a_cost_is_rounded_up_once() {
        assert_eq!(Price::new(1).times(1).round_up(), Ok(Nanodollars::new(1)));
        assert_eq!(Price::new(1000).times(1).round_up(), Ok(Nanodollars::new(1)));
        assert_eq!(Price::new(1001).times(1).round_up(), Ok(Nanodollars::new(2)));
        let sum = Price::new(400).times(1).plus(Price::new(600).times(1)).unwrap();
        assert_eq!(sum.round_up(), Ok(Nanodollars::new(1)), "two parts, one rounding");
        let geo: Multiplier = "1.1".parse().unwrap();
        let scaled = Price::new(1000).times(10).scaled(&[geo]).unwrap();
        assert_eq!(scaled.round_up(), Ok(Nanodollars::new(11)), "a factor adds no rounding of its own");
        let with_fee = scaled.plus(Price::new(1).times(1)).unwrap();
        assert_eq!(with_fee.round_up(), Ok(Nanodollars::new(12)));
        assert_eq!(Price::new(u64::MAX).times(u64::MAX).round_up(), Err(Overflow));
    }

    proptest! {
        #[test]
        fn an_amount_survives_its_text(nanodollars: i64) {
            let amount = Nanodollars::new(nanodollars);
            prop_assert_eq!(amount.to_string().parse(), Ok(amount));
        }

        #[test]
        fn any_text_is_an_amount_or_an_error(text in "[-+]?[0-9]{0,30}[.]?[0-9]{0,30}([eE][-+]?[0-9]{0,4})?") {
            let _ = text.parse::<Nanodollars>();
        }
    }
}
