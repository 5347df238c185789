//! Filters from the wire. Errors are placed at the path of the field at fault, as in
//! `filter.all.filters[1].field.less`.

use super::field::{at, required};
use super::proto;
use super::proto::field_filter::Condition as Wire;
use crate::error::{Error, Result};
use crate::filter::{Comparison, Condition, Field, Filter, Point, Value, View};
use crate::record::RecordId;

/// The filter of a request, where it has one.
pub fn filter(filter: Option<proto::Filter>) -> Result<Option<Filter>> {
    let filter = filter.map(convert).transpose().map_err(|e| e.within("filter."))?;
    // A text that is too deep has its error already.
    filter.as_ref().map_or(Ok(()), Filter::check)?;
    Ok(filter)
}

fn convert(filter: proto::Filter) -> Result<Filter> {
    use proto::filter::Kind;
    Ok(match required(filter.kind, "kind", "one of text, all, any, none, ids and field")? {
        Kind::Text(text) => Filter::parse(&text).map_err(|e| at("text", e))?,
        Kind::All(list) => Filter::All(filters(list).map_err(|e| e.within("all."))?),
        Kind::Any(list) => Filter::Any(filters(list).map_err(|e| e.within("any."))?),
        Kind::None(list) => {
            let any = Filter::Any(filters(list).map_err(|e| e.within("none."))?);
            Filter::Not(Box::new(any))
        }
        Kind::Ids(list) => Filter::Ids(each(list.ids, "ids.ids", RecordId::new)?),
        Kind::Field(filter) => field(filter).map_err(|e| e.within("field."))?,
    })
}

fn filters(list: proto::FilterList) -> Result<Vec<Filter>> {
    let convert = |(i, filter)| convert(filter).map_err(|e| e.within(&format!("filters[{i}].")));
    list.filters.into_iter().enumerate().map(convert).collect()
}

fn field(filter: proto::FieldFilter) -> Result<Filter> {
    let field = Field::parse(&filter.field).map_err(|e| at("field", e))?;
    let condition = match required(filter.condition, "condition", "one, such as in or less")? {
        Wire::Exists(proto::Exists {}) => Condition::Exists,
        Wire::IsNull(proto::IsNull {}) => Condition::IsNull,
        Wire::In(list) => Condition::In(values(list, "in.values")?),
        Wire::Less(to) => Condition::Compare(Comparison::Less, point(to, "less")?),
        Wire::AtMost(to) => Condition::Compare(Comparison::AtMost, point(to, "at_most")?),
        Wire::Greater(to) => Condition::Compare(Comparison::Greater, point(to, "greater")?),
        Wire::AtLeast(to) => Condition::Compare(Comparison::AtLeast, point(to, "at_least")?),
        Wire::ContainsAny(list) => Condition::ContainsAny(values(list, "contains_any.values")?),
        Wire::ContainsAll(list) => Condition::ContainsAll(values(list, "contains_all.values")?),
    };
    Ok(Filter::Field(field, condition))
}

fn values(list: proto::ValueList, place: &str) -> Result<Vec<Value>> {
    each(list.values, place, value)
}

fn point(to: proto::Value, place: &str) -> Result<Point> {
    value(to).and_then(Point::try_from).map_err(|e| at(place, e))
}

fn value(value: proto::Value) -> Result<Value> {
    use proto::value::Kind;
    match required(value.kind, "value", "one of text, integer, unsigned, number and boolean")? {
        Kind::Text(text) => Ok(text.into()),
        Kind::Integer(integer) => Ok(integer.into()),
        Kind::Unsigned(integer) => Ok(integer.into()),
        Kind::Number(number) => Value::number(number),
        Kind::Boolean(boolean) => Ok(boolean.into()),
    }
}

/// A value on the wire.
pub fn to_wire(value: &Value) -> proto::Value {
    use proto::value::Kind;
    let kind = match value.view() {
        View::Bool(boolean) => Kind::Boolean(boolean),
        View::Integer(integer) => match (i64::try_from(integer), u64::try_from(integer)) {
            (Ok(integer), _) => Kind::Integer(integer),
            (_, Ok(integer)) => Kind::Unsigned(integer),
            // Numbers so large come from floats.
            _ => Kind::Number(integer as f64),
        },
        View::Float(number) => Kind::Number(number),
        View::Date(date) => Kind::Text(date.to_string()),
        View::Text(text) => Kind::Text(text.to_owned()),
    };
    proto::Value { kind: Some(kind) }
}

fn each<T, U>(list: Vec<T>, place: &str, convert: impl Fn(T) -> Result<U>) -> Result<Vec<U>> {
    let convert = |(i, item)| convert(item).map_err(|e: Error| at(&format!("{place}[{i}]"), e));
    list.into_iter().enumerate().map(convert).collect()
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    /// So deep a filter, as it comes out of the bytes of a request.
    fn deep(depth: usize, kind: impl Fn(proto::FilterList) -> proto::filter::Kind) -> Result<()> {
        let mut tree = proto::Filter { kind: Some(proto::filter::Kind::Text("true".into())) };
        for _ in 1..depth {
            tree = proto::Filter { kind: Some(kind(proto::FilterList { filters: vec![tree] })) };
        }
        let request = proto::SearchRequest { filter: Some(tree), ..Default::default() };
        let batch = proto::SearchBatchRequest { searches: vec![request], ..Default::default() };
        let batch = proto::SearchBatchRequest::decode(&batch.encode_to_vec()[..]).unwrap();
        filter(batch.searches[0].filter.clone()).map(|_| ())
    }

    /// As deep as the proto file says: what protobuf itself allows is more.
    #[test]
    fn filters_stand_in_one_another_as_deep_as_is_told() {
        use proto::filter::Kind;
        for kind in [Kind::All, Kind::Any] {
            assert!(deep(Filter::MAX_DEPTH, kind).is_ok());
            let error = deep(Filter::MAX_DEPTH + 1, kind).unwrap_err().to_string();
            assert!(error.contains("at most 32 filters in one another"), "{error}");
        }
        assert!(deep(Filter::MAX_DEPTH / 2, Kind::None).is_ok());
        assert!(deep(Filter::MAX_DEPTH / 2 + 1, Kind::None).is_err());
    }
}
