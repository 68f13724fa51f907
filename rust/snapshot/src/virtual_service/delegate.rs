//! Circles of delegates.

use std::collections::{BTreeMap, BTreeSet};

use navarch_model::{Delegate, VirtualService};

/// Namespace and name of a rule.
pub(super) type RuleName<'a> = (&'a str, &'a str);

/// All rules that have delegates, by name.
pub(super) type Delegating<'a> = BTreeMap<RuleName<'a>, &'a VirtualService>;

/// The delegate as named in full by a rule of `namespace`.
pub(super) fn name_of<'a>(delegate: &'a Delegate, namespace: &'a str) -> RuleName<'a> {
    let own = delegate.namespace.as_str();
    (if own.is_empty() { namespace } else { own }, &delegate.name)
}

/// The way from `start` over its delegates back to where it passed before, if there is one.
pub(super) fn find_cycle<'a>(
    root: RuleName<'a>,
    start: RuleName<'a>,
    rules: &Delegating<'a>,
) -> Option<Vec<RuleName<'a>>> {
    let mut path = vec![root];
    visit(start, rules, &mut path, &mut BTreeSet::new())
}

fn visit<'a>(
    name: RuleName<'a>,
    rules: &Delegating<'a>,
    path: &mut Vec<RuleName<'a>>,
    done: &mut BTreeSet<RuleName<'a>>,
) -> Option<Vec<RuleName<'a>>> {
    /// A longer chain is no circle that anybody made: only one level is followed anyway.
    const MAX_DEPTH: usize = 64;
    if let Some(first) = path.iter().position(|passed| *passed == name) {
        let mut cycle = path.split_off(first);
        cycle.push(name);
        return Some(cycle);
    }
    if path.len() >= MAX_DEPTH || !done.insert(name) {
        return None;
    }
    let rule = rules.get(&name)?;
    path.push(name);
    let routes = rule.spec.http.iter();
    let mut delegates = routes.filter_map(|route| route.delegate.as_ref());
    let found = delegates.find_map(|delegate| {
        let next = name_of(delegate, name.0);
        visit(next, rules, path, done)
    });
    path.pop();
    found
}
