//! What follows the `?`.

/// Names and values in order; a name may come more than once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// None.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// One more.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.0.push((name.to_owned(), value.to_string()));
        self
    }

    /// One for each value, of the same name.
    #[must_use]
    pub fn with_each<I: AsRef<str>>(mut self, name: &str, values: impl IntoIterator<Item = I>) -> Self {
        self.0.extend(values.into_iter().map(|value| (name.to_owned(), value.as_ref().to_owned())));
        self
    }

    /// Without those of this name.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.0.retain(|(own, _)| own != name);
        self
    }

    /// Reads what follows the `?` of an address.
    pub fn parse(text: &str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// The pairs.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// The first value of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// Every value of this name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// `path?a=b`, or `path` alone.
    pub fn after(&self, path: &str) -> String {
        if self.0.is_empty() {
            return path.to_owned();
        }
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.0).finish();
        format!("{path}?{query}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_written_as_it_is_read() {
        let query = Query::new().with("name", "a b&c=<d>").with_each("id", ["1", "2"]);
        assert_eq!(query.after("/x"), "/x?name=a+b%26c%3D%3Cd%3E&id=1&id=2");
        assert_eq!(Query::parse("name=a+b%26c%3D%3Cd%3E&id=1&id=2"), query);
        assert_eq!(query.all("id").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(query.without("id").without("name").after("/x"), "/x");
    }
}
