//! A price book: own prices, discounts and aliases over the prices that Tollgate ships.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::core::Rule;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Own prices, discounts and aliases. All price books of an installation count together.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[kube(
    group = "tollgate.dev",
    version = "v1alpha1",
    kind = "PriceBook",
    plural = "pricebooks",
    namespaced,
    status = "PriceBookStatus",
    shortname = "tgprice",
    category = "tollgate",
    derive = "PartialEq",
    doc = "Own prices, discounts and aliases over the prices that Tollgate ships. All price books of an installation count together.",
    validation = super::definitions::name_rule(),
    printcolumn(name = "Models", type_ = "integer", json_path = ".status.models"),
    printcolumn(name = "Discounts", type_ = "integer", json_path = ".status.discounts"),
    printcolumn(name = "Aliases", type_ = "integer", json_path = ".status.aliases"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.models) || has(self.discounts) || has(self.aliases)")
    .message("a price book says something: write models, discounts or aliases"))]
pub struct PriceBookSpec {
    /// Models that Tollgate does not ship, and others that cost something else than what it ships says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    pub models: Vec<PricedModel>,
    /// Parts off the prices that Tollgate ships.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    pub discounts: Vec<PriceDiscount>,
    /// More names of models.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub aliases: Vec<ModelAlias>,
}

/// A model with prices of its own. They are final: no discount applies to them.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PricedModel {
    /// `provider/model`, by the provider's own name or an alias that Tollgate ships, such as `anthropic/claude-opus-4-5`.
    #[schemars(length(max = 160))]
    #[x_kube(validation = Rule::new("self.matches('^(anthropic|openai|gemini)/[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}$')")
        .message("name is provider/model: write it like anthropic/claude-opus-4-5, openai/... or gemini/..."))]
    pub name: String,
    /// What it is for. Left out: as Tollgate ships it, else `Chat`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<ModelMode>,
    /// How many tokens of input and output fit one call. Left out: as Tollgate ships it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 100000000")
        .message("contextWindow is a number of tokens: write 1 to 100000000, such as 200000"))]
    pub context_window: Option<i64>,
    /// How many tokens of output one call gives at most. Left out: as Tollgate ships it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 0 && self <= 100000000")
        .message("maxOutput is a number of tokens: write 0 to 100000000, such as 64000"))]
    pub max_output: Option<i64>,
    /// More names of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 128)))]
    #[x_kube(validation = Rule::new("self.all(alias, alias.matches('^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}$'))")
        .message("an alias has 1 to 128 letters, digits and . _ - : / @, a letter or digit first: write it like fast"))]
    pub aliases: Vec<String>,
    /// All of its prices, in US dollars per million tokens: instead of those that Tollgate ships, for every size of request and every
    /// service tier.
    #[schemars(length(max = 8))]
    #[x_kube(validation = Rule::new("self.exists(price, (!has(price.tier) || price.tier == 'standard') \
&& (!has(price.aboveTokens) || price.aboveTokens == 0))")
        .message("no price is for requests of every size: write one without tier and aboveTokens, such as {input: \"3\", output: \"15\"}"))]
    pub prices: Vec<TokenPrices>,
    /// US dollars for one web search. Left out: as Tollgate ships it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9]{1,6}([.][0-9]{1,9})?$')")
        .message("webSearch is US dollars for one search as a decimal string that is not negative, such as \"0.01\""))]
    pub web_search: Option<String>,
}

/// What tokens cost, for one service tier from one size of request on.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(self.input.matches('^[0.]+$') && self.output.matches('^[0.]+$'))")
    .message("input and output both cost nothing: write what they cost"))]
pub struct TokenPrices {
    /// For which service tier, such as `batch`, `flex` or `priority`. Left out: `standard`, and every tier that has no price here. `auto`,
    /// `default`, `standard_only` and `on_demand` are billed as `standard`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z][a-z0-9_-]{0,31}$') && !(self in ['auto', 'default', 'standard_only', 'on_demand'])")
        .message("tier is a service tier with prices of its own: write it like batch, flex or priority, or leave it out for standard"))]
    pub tier: Option<String>,
    /// Only for requests with more input tokens than this, which then cost it as a whole. Left out: for requests of every size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 0 && self <= 100000000")
        .message("aboveTokens is a number of tokens: write 0 to 100000000, such as 200000"))]
    pub above_tokens: Option<i64>,
    /// Of input.
    #[schemars(length(max = 32))]
    #[x_kube(validation = price_rule())]
    pub input: String,
    /// Of input that is read from the cache. Left out: as input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = price_rule())]
    pub cache_read: Option<String>,
    /// Of input that is written to the cache for five minutes. Left out: as input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = price_rule())]
    pub cache_write5m: Option<String>,
    /// Of input that is written to the cache for an hour. Left out: as for five minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = price_rule())]
    pub cache_write1h: Option<String>,
    /// Of output, reasoning included.
    #[schemars(length(max = 32))]
    #[x_kube(validation = price_rule())]
    pub output: String,
}

/// So much off the prices of a provider's models, or of one model: off every class of tokens, every tier and web searches.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.provider) != has(self.model)")
    .message("a discount is on a provider or on a model: write one of the two"))]
pub struct PriceDiscount {
    /// On all models of a provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<ProviderName>,
    /// On a model, by any of its names. It counts instead of its provider's discount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 160))]
    #[x_kube(validation = Rule::new("self.trim() != ''")
        .message("model is empty: write a model's name, or write provider instead"))]
    pub model: Option<String>,
    /// Above 0 and below 100, such as `"15"` or `"12.5"`.
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9]{1,2}([.][0-9]{1,4})?$') && !self.matches('^[0.]+$')")
        .message("percent is what comes off, a decimal string above 0 and below 100 such as \"15\" or \"12.5\"; for any other price, \
write the model under models"))]
    pub percent: String,
}

/// Another name of a model.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelAlias {
    /// The name.
    #[schemars(length(max = 128))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}$')")
        .message("an alias has 1 to 128 letters, digits and . _ - : / @, a letter or digit first: write it like fast"))]
    pub alias: String,
    /// The model: its own name, `provider/model`, or an alias that Tollgate ships.
    #[schemars(length(max = 160))]
    #[x_kube(validation = Rule::new("self.trim() != ''").message("model is empty: write a model's name"))]
    pub model: String,
}

/// Who serves models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProviderName {
    /// Anthropic.
    Anthropic,
    /// OpenAI.
    OpenAi,
    /// Google.
    Gemini,
}

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum ModelMode {
    /// Conversations.
    Chat,
    /// Conversations, only by the responses API.
    Responses,
    /// Embeddings.
    Embedding,
    /// Completions of a text.
    Completion,
}

/// US dollars per million tokens.
fn price_rule() -> Rule {
    Rule::new("self.matches('^[0-9]{1,9}([.][0-9]{1,6})?$')").message(
        "a price is US dollars per million tokens as a decimal string that is not negative, such as \"3\" or \"0.25\", with at most nine \
         digits before the point and six after it",
    )
}

/// How a price book stands.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PriceBookStatus {
    /// Which generation of the object this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`, `Programmed`, `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// How many models have prices of their own here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<i64>,
    /// How many discounts there are here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discounts: Option<i64>,
    /// How many aliases there are here, those of the models included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aliases: Option<i64>,
}
