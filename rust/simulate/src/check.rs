//! Conditions with their answers, and in words why they hold or do not.

/// What a rule asks, answered for one request.
#[derive(Debug)]
pub(crate) enum Check {
    /// All of them.
    All(Vec<Self>),
    /// At least one of them.
    Any(Vec<Self>),
    /// The opposite.
    Not(Box<Self>),
    /// Whatever the request is.
    Always,
    /// One thing of the request.
    Leaf {
        holds: bool,
        /// What the request has, as `path is /x`.
        found: String,
        /// What is asked for, as `begins with /y`.
        wanted: String,
    },
}

impl Check {
    pub(crate) fn leaf(holds: bool, found: impl Into<String>, wanted: impl Into<String>) -> Self {
        Self::Leaf {
            holds,
            found: found.into(),
            wanted: wanted.into(),
        }
    }

    pub(crate) fn holds(&self) -> bool {
        match self {
            Self::All(each) => each.iter().all(Self::holds),
            Self::Any(each) => each.iter().any(Self::holds),
            Self::Not(one) => !one.holds(),
            Self::Always => true,
            Self::Leaf { holds, .. } => *holds,
        }
    }

    /// Why it does not hold; `None` if it does.
    pub(crate) fn refusal(&self) -> Option<String> {
        if self.holds() {
            return None;
        }
        Some(match self {
            Self::All(each) => each.iter().find_map(Self::refusal).unwrap_or_default(),
            Self::Any(each) => any_refusal(each),
            Self::Not(one) => match one.grounds() {
                grounds if grounds.is_empty() => "it excepts everything".to_owned(),
                grounds => format!("it excepts this: {}", grounds.join(", ")),
            },
            Self::Leaf { found, wanted, .. } => format!("{found}, wanted: {wanted}"),
            Self::Always => String::new(),
        })
    }

    /// What makes it hold; nothing if anything would.
    pub(crate) fn grounds(&self) -> Vec<String> {
        let mut grounds = Vec::new();
        self.gather(&mut grounds);
        grounds.dedup();
        grounds
    }

    fn gather(&self, grounds: &mut Vec<String>) {
        match self {
            Self::All(each) => each.iter().for_each(|one| one.gather(grounds)),
            Self::Any(each) => {
                let first = each.iter().find(|one| one.holds());
                first.into_iter().for_each(|one| one.gather(grounds));
            }
            Self::Leaf { found, .. } => grounds.push(found.clone()),
            Self::Not(one) => grounds.extend(
                one.excepted()
                    .map(|found| format!("{found}, which it does not except")),
            ),
            Self::Always => {}
        }
    }

    /// What the request has of the first thing that an exception looks at.
    fn excepted(&self) -> Option<&str> {
        match self {
            Self::All(each) | Self::Any(each) => each.iter().find_map(Self::excepted),
            Self::Not(one) => one.excepted(),
            Self::Leaf { found, .. } => Some(found),
            Self::Always => None,
        }
    }
}

/// One thing of the request that is none of several is told once.
fn any_refusal(each: &[Check]) -> String {
    let mut told: Vec<(Option<&str>, String)> = Vec::new();
    for one in each {
        match one {
            Check::Leaf { found, wanted, .. } => {
                match told.iter_mut().find(|(known, _)| *known == Some(found)) {
                    Some((_, text)) => {
                        text.push_str(" or ");
                        text.push_str(wanted);
                    }
                    None => told.push((Some(found), format!("{found}, wanted: {wanted}"))),
                }
            }
            other => told.extend(other.refusal().map(|text| (None, text))),
        }
    }
    if told.is_empty() {
        return "it asks for one of nothing".to_owned();
    }
    let texts: Vec<String> = told.into_iter().map(|(_, text)| text).collect();
    texts.join("; and ")
}

#[cfg(test)]
mod tests {
    use super::Check;

    #[test]
    fn a_refusal_names_what_was_found_once() {
        let path = |wanted: &str| Check::leaf(false, "path is /x", wanted);
        let any = Check::All(vec![
            Check::Always,
            Check::Any(vec![path("/a"), path("/b")]),
        ]);
        assert_eq!(any.refusal().unwrap(), "path is /x, wanted: /a or /b");
        assert!(any.grounds().is_empty() || !any.holds());
    }

    #[test]
    fn an_exception_tells_what_it_excepts() {
        let holding = Check::leaf(true, "port is 80", "80");
        let not = Check::Not(Box::new(Check::Any(vec![holding])));
        assert_eq!(not.refusal().unwrap(), "it excepts this: port is 80");
        let other = Check::Not(Box::new(Check::leaf(false, "port is 80", "90")));
        assert!(other.refusal().is_none());
        assert_eq!(other.grounds(), ["port is 80, which it does not except"]);
    }
}
