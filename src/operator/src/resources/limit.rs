//! An amount for a span of time.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much may be spent in which span.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.anchorDay) || self.period == 'Month'")
        .message("anchorDay is for period: Month; remove it, or write period: Month"),
    validation = Rule::new("(self.period == 'Rolling') == has(self.rollingFor)")
        .message("rollingFor goes with period: Rolling: write both, such as rollingFor: 5h, or neither"),
    validation = Rule::new("!has(self.timeZone) || !(self.period in ['Lifetime', 'Rolling'])")
        .message("timeZone is for periods of the calendar; remove it, or write another period, such as Day"),
)]
pub struct Limit {
    /// US dollars as a decimal string, such as `"100"` or `"0.50"`. Zero allows nothing.
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9]{1,9}([.][0-9]{1,9})?$')")
        .message("amount is US dollars as a decimal string that is not negative, such as \"100\" or \"0.50\", \
with at most nine digits before the point and nine after it"))]
    pub amount: String,
    /// In which span: one of the calendar, the last so much time (`Rolling`), or ever (`Lifetime`).
    pub period: Period,
    /// In whose days the calendar counts: a name of the IANA database; left out: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$')")
        .message("timeZone is a name of the IANA database: write it like Europe/Vienna, or UTC"))]
    pub time_zone: Option<String>,
    /// On which day a month begins, 1 to 31; in shorter months, the last day stands for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 31")
        .message("anchorDay is a day of the month: write 1 to 31; in shorter months the last day stands for it"))]
    pub anchor_day: Option<i32>,
    /// How long a rolling span is, such as `5h` or `90m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]{1,5}[hms]){1,3}$') \
&& duration(self) >= duration('1m') && duration(self) <= duration('87840h')")
        .message("rollingFor is a span from 1m to 87840h: write it like 5h, 90m or 1h30m"))]
    pub rolling_for: Option<String>,
    /// Only requests of this model count; left out: all do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    #[x_kube(validation = Rule::new("self.trim() != ''")
        .message("model is empty: write a model's name, or leave it out so that every model counts"))]
    pub model: Option<String>,
}

/// A span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, JsonSchema)]
pub enum Period {
    /// From the full hour.
    Hour,
    /// From midnight.
    Day,
    /// From Monday.
    Week,
    /// From the first of the month, or from its anchor day.
    Month,
    /// From January, April, July or October.
    Quarter,
    /// From January.
    Year,
    /// All that is ever spent.
    Lifetime,
    /// The last so much time, whenever one looks.
    Rolling,
}

impl Period {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "Hour",
            Self::Day => "Day",
            Self::Week => "Week",
            Self::Month => "Month",
            Self::Quarter => "Quarter",
            Self::Year => "Year",
            Self::Lifetime => "Lifetime",
            Self::Rolling => "Rolling",
        }
    }
}
