//! The names of a type's fields.

use std::cell::Cell;

use serde::de::value::Error;
use serde::de::{self, DeserializeOwned, Deserializer, Visitor};

/// The fields of a struct as documents name them, in the order of its declaration; of anything else none. For tests that
/// must not forget one.
pub fn fields_of<T: DeserializeOwned>() -> &'static [&'static str] {
    let found = Cell::new([].as_slice());
    // It is asked for its fields and gets no value.
    T::deserialize(Listener(&found)).ok();
    found.get()
}

struct Listener<'a>(&'a Cell<&'static [&'static str]>);

impl<'de> Deserializer<'de> for Listener<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(de::Error::custom("there is no value"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.set(fields);
        self.deserialize_any(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::{IpPoolSpec, PeerAs, PrefixLimit};

    #[test]
    fn fields() {
        assert_eq!(
            fields_of::<PrefixLimit>(),
            ["limit", "warnPercent", "action", "restartSeconds"]
        );
        assert_eq!(fields_of::<IpPoolSpec>()[0], "cidr");
        assert!(fields_of::<PeerAs>().is_empty() && fields_of::<String>().is_empty());
    }
}
