//! Next-hop objects and groups of ours, as far as the kernel is believed to have them: pure.
//!
//! Owns the ids, which lie in [`crate::NEXT_HOP_IDS`], and what each group holds. A group is known by what it holds and
//! shared by all routes that want just that. Never decides which routes use it: see [`crate::plan`].
//!
//! When a link loses its carrier, the kernel drops the objects over it, takes them out of their groups, and drops a group
//! that is left empty together with all routes through it; it tells nobody. [`Groups::link_lost`] does the same here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use smallvec::SmallVec;

use crate::NEXT_HOP_IDS;
use crate::route::{NextHop, RouteKind};

/// Groups at most: peers choose the sets of next hops. Beyond that routes with several next hops are plain.
pub(crate) const MAX_GROUPS: usize = 4096;

/// What a next-hop object says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Member {
    pub(crate) gateway: IpAddr,
    pub(crate) ifindex: u32,
}

/// Members with their weights: in ascending order, weights without a common divisor.
pub(crate) type Content = SmallVec<[(Member, u16); 4]>;

/// A next-hop object or group read from the kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct NextHopObject {
    pub(crate) id: u32,
    pub(crate) protocol: u8,
    pub(crate) body: NextHopBody,
}

/// What it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum NextHopBody {
    Member(Member),
    /// Ids of members with their weights.
    Group(SmallVec<[(u32, u16); 4]>),
    /// Something that we never write.
    Odd,
}

/// One request about next-hop objects.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum NextHopOp {
    /// Create exclusively.
    AddMember { id: u32, member: Member },
    /// Create exclusively, of members that exist.
    AddGroup { id: u32, members: Vec<(u32, u16)> },
    /// Change what our own group holds, for all routes through it at once.
    ReplaceGroup { id: u32, members: Vec<(u32, u16)> },
    /// Delete an object or group of our own that nothing uses.
    Delete { id: u32 },
}

impl NextHopOp {
    pub(crate) fn id(&self) -> u32 {
        match self {
            NextHopOp::AddMember { id, .. }
            | NextHopOp::AddGroup { id, .. }
            | NextHopOp::ReplaceGroup { id, .. }
            | NextHopOp::Delete { id } => *id,
        }
    }

    /// Ids that this request needs.
    pub(crate) fn needs(&self) -> &[(u32, u16)] {
        match self {
            NextHopOp::AddGroup { members, .. } | NextHopOp::ReplaceGroup { members, .. } => {
                members
            }
            NextHopOp::AddMember { .. } | NextHopOp::Delete { .. } => &[],
        }
    }
}

/// The next hops that packets can be shared out to: those over live links, each once; a single one wherever it lies.
/// `None` where a next-hop group cannot say it.
pub(crate) fn content_of(kind: &RouteKind, dead: &dyn Fn(u32) -> bool) -> Option<Content> {
    let RouteKind::Via(hops) = kind else {
        return None;
    };
    let member = |hop: &NextHop| {
        let ifindex = hop.ifindex?;
        let gateway = hop.gateway;
        Some((Member { gateway, ifindex }, hop.share()))
    };
    let all = normal(hops.iter().map(member).collect::<Option<_>>()?);
    if all.len() == 1 {
        return Some(all);
    }
    let live = all.into_iter().filter(|(member, _)| !dead(member.ifindex));
    Some(normal(live.collect())).filter(|live: &Content| !live.is_empty())
}

/// Ascending, each member once, the smallest weights of the same proportions.
fn normal(mut content: Content) -> Content {
    content.sort_unstable();
    content.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 = kept.1.saturating_add(next.1).min(256);
        }
        same
    });
    let divisor = content.iter().fold(0, |a, (_, weight)| gcd(a, *weight));
    for (_, weight) in &mut content {
        *weight /= divisor.max(1);
    }
    content
}

fn gcd(a: u16, b: u16) -> u16 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// What the kernel is believed to have.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    members: BTreeMap<u32, Member>,
    ids: BTreeMap<Member, u32>,
    /// Empty: holds what we never write.
    groups: BTreeMap<u32, Content>,
    by_content: BTreeMap<Content, u32>,
    /// Ids of our range that somebody else uses.
    taken: BTreeSet<u32>,
    /// Found at the start, and not to be let go of before all was said that is wanted.
    adopted: BTreeSet<u32>,
    /// The last id given out, counted from the first.
    last: u32,
    /// Something may have lost its last user.
    loose: bool,
}

impl Groups {
    /// What a group of ours holds.
    pub(crate) fn content(&self, id: u32) -> Option<&Content> {
        self.groups.get(&id)
    }

    /// A group that holds just this.
    pub(crate) fn find(&self, content: &Content) -> Option<u32> {
        self.by_content.get(content).copied()
    }

    /// A group that holds just this, made where there is none; `None` when there are too many.
    pub(crate) fn find_or_add(
        &mut self,
        content: &Content,
        ops: &mut Vec<NextHopOp>,
    ) -> Option<u32> {
        if let Some(id) = self.find(content) {
            return Some(id);
        }
        if self.groups.len() >= MAX_GROUPS {
            return None;
        }
        let members = self.member_ids(content, ops)?;
        let id = self.new_id()?;
        ops.push(NextHopOp::AddGroup { id, members });
        self.set(id, content.clone());
        Some(id)
    }

    /// Makes a group hold something else.
    pub(crate) fn replace(&mut self, id: u32, content: &Content, ops: &mut Vec<NextHopOp>) {
        let Some(members) = self.member_ids(content, ops) else {
            return;
        };
        ops.push(NextHopOp::ReplaceGroup { id, members });
        self.set(id, content.clone());
        self.loose = true;
    }

    fn member_ids(
        &mut self,
        content: &Content,
        ops: &mut Vec<NextHopOp>,
    ) -> Option<Vec<(u32, u16)>> {
        let mut found = Vec::with_capacity(content.len());
        for (member, weight) in content {
            let id = match self.ids.get(member) {
                Some(id) => *id,
                None => {
                    let id = self.new_id()?;
                    self.members.insert(id, *member);
                    self.ids.insert(*member, id);
                    ops.push(NextHopOp::AddMember {
                        id,
                        member: *member,
                    });
                    id
                }
            };
            found.push((id, *weight));
        }
        Some(found)
    }

    /// An id that nothing has.
    fn new_id(&mut self) -> Option<u32> {
        let (first, count) = (NEXT_HOP_IDS.start(), NEXT_HOP_IDS.clone().count() as u32);
        let free = (1..=count).find_map(|step| {
            let offset = (self.last + step) % count;
            let id = first + offset;
            let known = self.members.contains_key(&id)
                || self.groups.contains_key(&id)
                || self.taken.contains(&id);
            (!known).then_some(offset)
        });
        self.last = free?;
        Some(first + self.last)
    }

    fn set(&mut self, id: u32, content: Content) {
        self.forget_group(id);
        if !content.is_empty() {
            self.by_content.entry(content.clone()).or_insert(id);
        }
        self.groups.insert(id, content);
    }

    fn forget_group(&mut self, id: u32) {
        if let Some(content) = self.groups.remove(&id)
            && self.by_content.get(&content) == Some(&id)
        {
            self.by_content.remove(&content);
        }
    }

    /// The kernel refused a request, or its answer was lost.
    pub(crate) fn refused(&mut self, op: &NextHopOp, id_is_taken: bool) {
        match op {
            NextHopOp::AddMember { id, member } => {
                self.members.remove(id);
                self.ids.remove(member);
            }
            NextHopOp::AddGroup { id, .. } | NextHopOp::ReplaceGroup { id, .. } => {
                self.forget_group(*id);
            }
            NextHopOp::Delete { .. } => {}
        }
        if id_is_taken {
            self.taken.insert(op.id());
        }
    }

    /// The kernel took away what lay over this link.
    pub(crate) fn link_lost(&mut self, ifindex: u32) {
        let over = |member: &Member| member.ifindex == ifindex;
        self.members.retain(|_, member| !over(member));
        self.ids.retain(|member, _| !over(member));
        let hit: Vec<u32> = self
            .groups
            .iter()
            .filter(|(_, content)| content.iter().any(|(member, _)| over(member)))
            .map(|(id, _)| *id)
            .collect();
        for id in hit {
            let mut left = self.groups.get(&id).cloned().unwrap_or_default();
            left.retain(|(member, _)| !over(member));
            if left.is_empty() {
                self.forget_group(id);
            } else {
                self.set(id, normal(left));
            }
        }
    }

    /// Takes a dump of all next-hop objects as the new truth; returns the groups that are not what they were believed
    /// to be. `protocol` is our mark: what lacks it is not ours, wherever its id lies.
    pub(crate) fn observe(&mut self, dump: &[NextHopObject], protocol: u8) -> BTreeSet<u32> {
        let before = std::mem::take(&mut self.groups);
        *self = Groups {
            last: self.last,
            adopted: std::mem::take(&mut self.adopted),
            loose: true,
            ..Groups::default()
        };
        let in_range = |object: &&NextHopObject| NEXT_HOP_IDS.contains(&object.id);
        for object in dump.iter().filter(in_range) {
            if object.protocol != protocol {
                self.taken.insert(object.id);
            } else if let NextHopBody::Member(member) = object.body {
                self.members.insert(object.id, member);
                self.ids.entry(member).or_insert(object.id);
            }
        }
        for object in dump.iter().filter(in_range) {
            if object.protocol != protocol {
                continue;
            }
            let content = match &object.body {
                NextHopBody::Member(_) => continue,
                NextHopBody::Group(entries) => entries
                    .iter()
                    .map(|(id, weight)| Some((*self.members.get(id)?, *weight)))
                    .collect::<Option<Content>>()
                    .map(normal),
                NextHopBody::Odd => None,
            };
            self.set(object.id, content.unwrap_or_default());
        }
        let ids: BTreeSet<u32> = before.keys().chain(self.groups.keys()).copied().collect();
        ids.into_iter()
            .filter(|id| before.get(id) != self.groups.get(id))
            .collect()
    }

    /// What is there now stays, used or not, until [`Groups::adoption_finished`].
    pub(crate) fn adopt(&mut self) {
        self.adopted = self
            .members
            .keys()
            .chain(self.groups.keys())
            .copied()
            .collect();
    }

    /// What was adopted is as everything else.
    pub(crate) fn adoption_finished(&mut self) {
        self.loose |= !self.adopted.is_empty();
        self.adopted.clear();
    }

    /// A route stopped using a group.
    pub(crate) fn loosen(&mut self) {
        self.loose = true;
    }

    /// Lets go of what nothing uses; `used` tells which groups routes go through.
    pub(crate) fn collect(&mut self, used: impl Fn(u32) -> bool) -> Vec<NextHopOp> {
        if !std::mem::take(&mut self.loose) {
            return Vec::new();
        }
        let kept = |id: &u32| used(*id) || self.adopted.contains(id);
        let groups = self.groups.keys().copied();
        let mut gone: Vec<u32> = groups.filter(|id| !kept(id)).collect();
        for id in &gone {
            self.forget_group(*id);
        }
        let needed: BTreeSet<u32> = self
            .groups
            .values()
            .flatten()
            .filter_map(|(member, _)| self.ids.get(member).copied())
            .collect();
        // What an odd group is made of is not known.
        if self.groups.values().all(|content| !content.is_empty()) {
            let kept = |id: &u32| needed.contains(id) || self.adopted.contains(id);
            let members = self.members.keys().copied();
            gone.extend(members.filter(|id| !kept(id)));
        }
        for id in &gone {
            if let Some(member) = self.members.remove(id)
                && self.ids.get(&member) == Some(id)
            {
                self.ids.remove(&member);
            }
        }
        gone.into_iter()
            .map(|id| NextHopOp::Delete { id })
            .collect()
    }
}
