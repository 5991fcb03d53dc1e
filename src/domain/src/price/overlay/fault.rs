//! What can be wrong with a sheet.

use crate::money::DecimalError;
use crate::price::discount::NoDiscount;
use std::fmt;

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SheetFault {
    /// The name of the sheet.
    pub sheet: String,
    /// The path of the field, such as `discounts[0].model`.
    pub field: String,
    /// What is wrong.
    pub error: SheetError,
}

impl fmt::Display for SheetFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.sheet, self.field, self.error)
    }
}

/// What is wrong with a field. Each says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SheetError {
    /// Nothing has this name.
    #[error("no model is called {0}: write a name from the list of models")]
    UnknownModel(String),
    /// Not `provider/model`.
    #[error(
        "{0:?} is no model of a provider: write it like anthropic/claude-opus-4-5, openai/... or gemini/..."
    )]
    NotOfProvider(String),
    /// Not a provider.
    #[error("{0:?} is no provider: write anthropic, openai or gemini")]
    UnknownProvider(String),
    /// The book knows the model as another provider's.
    #[error("the price book has {0} of another provider: write {1}/{0}")]
    OtherProvider(String, String),
    /// A name that no request could carry, or that would be mistaken for a pattern.
    #[error("{0:?} is no name: write 1 to 128 letters, digits and . _ - : / @, a letter or digit first")]
    NoName(String),
    /// A name that another model has.
    #[error("{0} is already a name of {1}: write another")]
    NameTaken(String, String),
    /// A name that another model has from another line.
    #[error("{0} is already a name of {1} in {2}: write another")]
    NameTakenIn(String, String, String),
    /// Another sheet, or another line of this one, says something else.
    #[error("{1} says something else of {0}: say it in one place")]
    Contradicted(String, String),
    /// A discount on a price that is final.
    #[error("{0} has a price of its own in {1}, which is final: write the discounted one there")]
    OwnPrice(String, String),
    /// A price that is final, on a model with a discount.
    #[error("{0} has a discount in {1}, and a price of its own is final: say one of the two")]
    Discounted(String, String),
    /// Neither or both of provider and model.
    #[error("a discount is on a provider or on a model: write one of the two")]
    NotOne,
    /// The percentage.
    #[error(transparent)]
    Percent(#[from] NoDiscount),
    /// A model that the book does not have has no size.
    #[error(
        "the price book does not have this model: write how many tokens it takes and gives at most, in contextWindow and maxOutput"
    )]
    NoSize,
    /// There is no price for a small standard request.
    #[error("no price is for requests of every size: write one without tier and aboveTokens")]
    NoBasePrice,
    /// A service tier that is asked for and never billed.
    #[error(
        "requests of tier {0} are billed as standard: leave tier out, or write one such as batch, flex or priority"
    )]
    IsStandard(String),
    /// Two prices for the same requests.
    #[error("two prices are for tier {0} above {1} tokens: leave one out")]
    TwoPrices(String, u64),
    /// The book's price is dearer where the sheet says nothing, and would be lost.
    #[error("the price book has a price of its own for tier {0} above {1} tokens: write a price for it, too")]
    PriceMissing(String, u64),
    /// A price that is no price.
    #[error("it {0}: write US dollars per million tokens, such as \"3\" or \"0.25\"")]
    Decimal(DecimalError),
    /// Input and output both cost nothing.
    #[error("input and output both cost nothing: a price of zero is no price")]
    Free,
    /// A request as large as the model takes would cost more than an amount can say.
    #[error("a request of the largest size would cost more than can be counted: write a lower price")]
    TooDear,
    /// The book of the sheets is none.
    #[error("{0}")]
    Book(String),
}

/// What sort of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SheetErrorKind {
    /// It names what is not there.
    Unknown,
    /// Somebody else says something else.
    Conflict,
    /// It can never be.
    Invalid,
}

impl SheetError {
    /// Its sort.
    pub fn kind(&self) -> SheetErrorKind {
        match self {
            Self::UnknownModel(_) => SheetErrorKind::Unknown,
            Self::OtherProvider(..)
            | Self::NameTaken(..)
            | Self::NameTakenIn(..)
            | Self::Discounted(..)
            | Self::Contradicted(..)
            | Self::OwnPrice(..)
            | Self::PriceMissing(..) => SheetErrorKind::Conflict,
            _ => SheetErrorKind::Invalid,
        }
    }
}
