//! One book from a book and sheets.

use super::{Discounted, OwnModel, Sheet, SheetError, SheetFault};
use crate::bounds::Bounds;
use crate::catalogue::{Mode, Provider};
use crate::ids::ModelName;
use crate::money::{DecimalError, Price};
use crate::price::file::{BookFile, ModelEntry, RateEntry};
use crate::price::{
    BookError, CHEAPER_TIERS, Discount, Modifiers, PriceBook, STANDARD, STANDARD_BY_OTHER_NAMES,
};
use std::collections::{BTreeMap, BTreeSet};

/// See [`PriceBook::under`].
pub(super) fn merge(book: &PriceBook, sheets: &[&Sheet]) -> Result<PriceBook, Vec<SheetFault>> {
    let file = BookFile::parse(book.source()).map_err(|error| vec![of_all(sheets, &error)])?;
    let shipped = Names::of(&file);
    let mut merge = Merge { file, shipped, own: BTreeMap::new(), faults: Vec::new() };
    merge.each(sheets, |sheet| &sheet.models, "models", Merge::model);
    let names = merge.names(sheets);
    merge.discounts(sheets, &names);
    merge.file.models.sort_by(|a, b| a.name.cmp(&b.name));
    if !merge.faults.is_empty() {
        return Err(merge.faults);
    }
    let text = merge.file.to_text();
    let merged =
        text.and_then(|text| PriceBook::parse(&text)).map_err(|error| vec![of_all(sheets, &error)])?;
    merge.check_amounts(&merged);
    if merge.faults.is_empty() { Ok(merged) } else { Err(merge.faults) }
}

/// A fault of which nobody knows whose it is.
fn of_all(sheets: &[&Sheet], error: &BookError) -> SheetFault {
    let sheet = sheets.last().map(|sheet| sheet.name.clone()).unwrap_or_default();
    SheetFault { sheet, field: String::new(), error: SheetError::Book(error.to_string()) }
}

/// Where something is said.
#[derive(Clone, Debug)]
struct Place<'a> {
    /// Which of the sheets: the later of two that contradict each other is to blame, whatever they say it with.
    at: usize,
    sheet: &'a str,
    field: String,
}

impl Place<'_> {
    fn fault(&self, field: &str, error: SheetError) -> SheetFault {
        SheetFault { sheet: self.sheet.to_owned(), field: format!("{}{field}", self.field), error }
    }
}

struct Merge<'a> {
    file: BookFile,
    /// The names of the book without the sheets.
    shipped: Names,
    /// Models with prices of their own, by the provider's name, and where these are said.
    own: BTreeMap<String, (Place<'a>, &'a OwnModel)>,
    faults: Vec<SheetFault>,
}

/// The model of each name.
#[derive(Clone)]
struct Names(BTreeMap<String, String>);

impl Names {
    fn of(file: &BookFile) -> Self {
        let mut names = BTreeMap::new();
        for model in &file.models {
            let aliases = model.aliases.iter().cloned();
            let all = aliases.chain([model.name.clone(), format!("{}/{}", model.provider, model.name)]);
            names.extend(all.map(|name| (name, model.name.clone())));
        }
        Self(names)
    }

    fn model(&self, name: &str) -> Result<&String, SheetError> {
        self.0.get(name).ok_or_else(|| SheetError::UnknownModel(name.to_owned()))
    }

    /// The provider's own name where this is an alias.
    fn real(&self, name: &str) -> String {
        self.0.get(name).map_or(name, String::as_str).to_owned()
    }
}

/// That a model has a name.
struct Claim<'a> {
    place: Place<'a>,
    field: String,
    name: String,
    model: String,
    /// A model's own name stands in the book already.
    is_alias: bool,
}

/// What is said of something, and where.
type Said<'a, K, V> = BTreeMap<K, (Place<'a>, V)>;

impl<'a> Merge<'a> {
    /// Goes through one sort of lines, and notes what is wrong with each.
    fn each<T: 'a>(
        &mut self,
        sheets: &[&'a Sheet],
        lines: impl Fn(&'a Sheet) -> &'a Vec<T>,
        field: &str,
        mut take: impl FnMut(&mut Self, &Place<'a>, &'a T) -> Result<(), SheetFault>,
    ) {
        for (at, sheet) in sheets.iter().enumerate() {
            for (index, line) in lines(sheet).iter().enumerate() {
                let place = Place { at, sheet: &sheet.name, field: format!("{field}[{index}]") };
                if let Err(fault) = take(self, &place, line) {
                    self.faults.push(fault);
                }
            }
        }
    }

    fn model(&mut self, place: &Place<'a>, own: &'a OwnModel) -> Result<(), SheetFault> {
        let (provider, written) = named(&own.name).map_err(|error| place.fault(".name", error))?;
        let name = self.shipped.real(written);
        if let Some((other, said)) = self.own.get(&name) {
            let error = || SheetError::Contradicted(name.clone(), other.sheet.to_owned());
            let same = **said == OwnModel { name: said.name.clone(), ..own.clone() };
            return if same { Ok(()) } else { Err(place.fault(".name", error())) };
        }
        let known = self.file.models.iter().position(|model| model.name == name);
        let known = known.and_then(|index| self.file.models.get_mut(index));
        let rates = rates(own).map_err(|(field, error)| place.fault(&field, error))?;
        match known {
            Some(known) => {
                if known.provider != provider {
                    let error = SheetError::OtherProvider(written.to_owned(), known.provider.to_string());
                    return Err(place.fault(".name", error));
                }
                if let Some(lost) = known.rates.iter().find(|rate| is_lost(rate, &rates)) {
                    let error = SheetError::PriceMissing(lost.tier.clone(), lost.above);
                    return Err(place.fault(".prices", error));
                }
                known.rates = rates;
                known.mode = own.mode.unwrap_or(known.mode);
                known.context_window = own.context_window.unwrap_or(known.context_window);
                known.max_output = own.max_output.unwrap_or(known.max_output);
                known.web_search = own.web_search.clone().or(known.web_search.take());
            }
            None => {
                let size = own.context_window.zip(own.max_output).filter(|(window, _)| *window > 0);
                let (context_window, max_output) =
                    size.ok_or_else(|| place.fault(".contextWindow", SheetError::NoSize))?;
                self.file.models.push(ModelEntry {
                    name: name.clone(),
                    provider,
                    mode: own.mode.unwrap_or(Mode::Chat),
                    aliases: Vec::new(),
                    context_window,
                    max_output,
                    retired: None,
                    rates,
                    multipliers: BTreeMap::new(),
                    web_search: own.web_search.clone(),
                });
            }
        }
        self.own.insert(name, (place.clone(), own));
        Ok(())
    }

    /// Gives the models their new names, and tells all names.
    fn names(&mut self, sheets: &[&'a Sheet]) -> Names {
        let mut claims = self.claims(sheets);
        // Of one sheet, models come first.
        claims.sort_by_key(|claim| claim.place.at);
        let mut names = self.shipped.clone();
        let mut sheet_of: BTreeMap<String, &str> = BTreeMap::new();
        let mut added: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for Claim { place, field, name, model, is_alias } in claims {
            match names.0.get(&name) {
                Some(other) if *other != model => {
                    let error = match sheet_of.get(&name) {
                        Some(sheet) => SheetError::NameTakenIn(name, other.clone(), (*sheet).to_owned()),
                        None => SheetError::NameTaken(name, other.clone()),
                    };
                    self.faults.push(place.fault(&field, error));
                }
                Some(_) => {}
                None => {
                    names.0.insert(name.clone(), model.clone());
                    sheet_of.insert(name.clone(), place.sheet);
                    if is_alias {
                        added.entry(model).or_default().insert(name);
                    }
                }
            }
        }
        for model in &mut self.file.models {
            model.aliases.extend(added.remove(&model.name).into_iter().flatten());
        }
        names
    }

    fn claims(&mut self, sheets: &[&'a Sheet]) -> Vec<Claim<'a>> {
        let mut claims = Vec::new();
        for (model, (place, own)) in &self.own {
            if !self.shipped.0.contains_key(model) {
                let claim = |name: &str| Claim {
                    place: place.clone(),
                    field: ".name".to_owned(),
                    name: name.to_owned(),
                    model: model.clone(),
                    is_alias: false,
                };
                claims.extend([claim(model), claim(&own.name)]);
            }
        }
        let mut claim = |place: &Place<'a>, field: String, name: &str, model: String| {
            if !is_name(name) {
                return Err(place.fault(&field, SheetError::NoName(name.to_owned())));
            }
            let (place, name) = (place.clone(), name.to_owned());
            claims.push(Claim { place, field, name, model, is_alias: true });
            Ok(())
        };
        self.each(
            sheets,
            |sheet| &sheet.models,
            "models",
            |merge, place, own| {
                // What is wrong with the name itself was noted before.
                let Ok((_, name)) = named(&own.name) else { return Ok(()) };
                let mut aliases = own.aliases.iter().enumerate();
                aliases.try_for_each(|(index, alias)| {
                    claim(place, format!(".aliases[{index}]"), alias, merge.shipped.real(name))
                })
            },
        );
        // An alias of an alias would mean another thing in another order.
        let without = Names::of(&self.file);
        self.each(
            sheets,
            |sheet| &sheet.aliases,
            "aliases",
            |_, place, line| {
                let model = without.model(&line.model).map_err(|error| place.fault(".model", error))?;
                claim(place, ".alias".to_owned(), &line.alias, model.clone())
            },
        );
        claims
    }

    fn discounts(&mut self, sheets: &[&'a Sheet], names: &Names) {
        let mut of_providers: Said<'a, Provider, Discount> = BTreeMap::new();
        let mut of_models: Said<'a, String, Discount> = BTreeMap::new();
        self.each(
            sheets,
            |sheet| &sheet.discounts,
            "discounts",
            |merge, place, line| {
                let Discounted { provider, model, percent } = line;
                let discount =
                    percent.parse().map_err(|error| place.fault(".percent", SheetError::Percent(error)))?;
                match (provider, model) {
                    (Some(name), None) => {
                        let provider = provider_of(name).map_err(|error| place.fault(".provider", error))?;
                        say(&mut of_providers, provider, name, place, discount)
                    }
                    (None, Some(name)) => {
                        let model = names.model(name).map_err(|error| place.fault(".model", error))?;
                        if let Some((own, _)) = merge.own.get(model) {
                            return Err(final_price(name, place, own));
                        }
                        say(&mut of_models, model.clone(), name, place, discount)
                    }
                    (None, None) | (Some(_), Some(_)) => Err(place.fault("", SheetError::NotOne)),
                }
            },
        );
        for model in &mut self.file.models {
            let found = of_models.get(&model.name).or_else(|| of_providers.get(&model.provider));
            let Some((place, discount)) = found.filter(|_| !self.own.contains_key(&model.name)) else {
                continue;
            };
            if let Err(error) = discounted(model, *discount) {
                self.faults.push(place.fault("", SheetError::Decimal(error)));
            }
        }
    }

    /// Prices whose largest request has no amount would refuse every request of their model.
    fn check_amounts(&mut self, merged: &PriceBook) {
        for (name, (place, _)) in &self.own {
            let name = ModelName::new(name.as_str());
            let Some(model) = merged.catalogue().resolve(name.as_str()) else { continue };
            let bounds = Bounds {
                input: model.context_window,
                input_per_call: model.context_window,
                cache_write_5m: model.context_window,
                cache_write_1h: model.context_window,
                output: model.max_output,
                web_searches: 0,
            };
            if merged.cost_max(&name, &bounds, &Modifiers::default()).is_err() {
                self.faults.push(place.fault(".prices", SheetError::TooDear));
            }
        }
    }
}

/// Notes what is said of something, once.
fn say<'a, K: Ord>(
    said: &mut Said<'a, K, Discount>,
    of: K,
    name: &str,
    place: &Place<'a>,
    discount: Discount,
) -> Result<(), SheetFault> {
    match said.get(&of) {
        Some((_, other)) if *other == discount => {}
        Some((other, _)) => {
            let error = SheetError::Contradicted(name.to_owned(), other.sheet.to_owned());
            return Err(place.fault("", error));
        }
        None => drop(said.insert(of, (place.clone(), discount))),
    }
    Ok(())
}

/// A discount on a model whose price is final.
fn final_price(model: &str, discount: &Place<'_>, own: &Place<'_>) -> SheetFault {
    if own.at > discount.at {
        own.fault(".name", SheetError::Discounted(model.to_owned(), discount.sheet.to_owned()))
    } else {
        discount.fault(".model", SheetError::OwnPrice(model.to_owned(), own.sheet.to_owned()))
    }
}

/// Whether the book's rate would be lost, and with it what such requests cost more. A cheaper tier that is missing is billed as standard.
fn is_lost(rate: &RateEntry, own: &[RateEntry]) -> bool {
    let is_there = own.iter().any(|own| own.tier == rate.tier && own.above == rate.above);
    !is_there && !CHEAPER_TIERS.contains(&rate.tier.as_str())
}

/// The rates of an own model, or which field is wrong.
fn rates(own: &OwnModel) -> Result<Vec<RateEntry>, (String, SheetError)> {
    let mut rates: Vec<RateEntry> = Vec::new();
    for (index, price) in own.prices.iter().enumerate() {
        let at = |field: &str| format!(".prices[{index}]{field}");
        let dollars = |field: &str, text: &str| {
            let price = Price::from_dollars_per_million(text);
            price.map_err(|error| (at(field), SheetError::Decimal(error)))
        };
        let tier = price.tier.as_deref().unwrap_or(STANDARD);
        if !is_name(tier) {
            return Err((at(".tier"), SheetError::NoName(tier.to_owned())));
        }
        if STANDARD_BY_OTHER_NAMES.contains(&tier) {
            return Err((at(".tier"), SheetError::IsStandard(tier.to_owned())));
        }
        let above = price.above_tokens.unwrap_or(0);
        if rates.iter().any(|rate| rate.tier == tier && rate.above == above) {
            return Err((at(""), SheetError::TwoPrices(tier.to_owned(), above)));
        }
        if dollars(".input", &price.input)?.max(dollars(".output", &price.output)?) == Price::default() {
            return Err((at(""), SheetError::Free));
        }
        for (field, text) in [
            (".cacheRead", &price.cache_read),
            (".cacheWrite5m", &price.cache_write_5m),
            (".cacheWrite1h", &price.cache_write_1h),
        ] {
            text.as_deref().map(|text| dollars(field, text)).transpose()?;
        }
        rates.push(RateEntry {
            tier: tier.to_owned(),
            above,
            input: price.input.clone(),
            cache_read: price.cache_read.clone(),
            cache_write_5m: price.cache_write_5m.clone(),
            cache_write_1h: price.cache_write_1h.clone(),
            output: price.output.clone(),
        });
    }
    if let Some(text) = &own.web_search {
        Price::from_dollars(text).map_err(|error| (".webSearch".to_owned(), SheetError::Decimal(error)))?;
    }
    if !rates.iter().any(|rate| rate.tier == STANDARD && rate.above == 0) {
        return Err((".prices".to_owned(), SheetError::NoBasePrice));
    }
    Ok(rates)
}

/// Takes the discount off every price of the model.
fn discounted(model: &mut ModelEntry, discount: Discount) -> Result<(), DecimalError> {
    let off = |text: &str| {
        Price::from_dollars_per_million(text).map(|price| discount.off(price).to_dollars_per_million())
    };
    for rate in &mut model.rates {
        rate.input = off(&rate.input)?;
        rate.output = off(&rate.output)?;
        for price in [&mut rate.cache_read, &mut rate.cache_write_5m, &mut rate.cache_write_1h] {
            *price = price.as_deref().map(off).transpose()?;
        }
    }
    let off = |text: &str| Price::from_dollars(text).map(|price| discount.off(price).to_dollars());
    model.web_search = model.web_search.as_deref().map(off).transpose()?;
    Ok(())
}

/// `provider/model`.
fn named(name: &str) -> Result<(Provider, &str), SheetError> {
    let no = || SheetError::NotOfProvider(name.to_owned());
    let (provider, model) = name.split_once('/').ok_or_else(no)?;
    let provider = provider_of(provider).map_err(|_| no())?;
    if is_name(model) { Ok((provider, model)) } else { Err(SheetError::NoName(model.to_owned())) }
}

fn provider_of(name: &str) -> Result<Provider, SheetError> {
    let found = Provider::ALL.into_iter().find(|provider| provider.as_str() == name);
    found.ok_or_else(|| SheetError::UnknownProvider(name.to_owned()))
}

const NAME_BYTES_MAX: usize = 128;

/// What a request can name, and no pattern.
fn is_name(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/@-".contains(&byte);
    text.len() <= NAME_BYTES_MAX
        && text.bytes().all(good)
        && text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
}
