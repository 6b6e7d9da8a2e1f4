//! Questions to a speaker from tasks other than the one that owns it.

use roadbed_api::agent::{BgpPeer, BmpStationReport, PeerReport};
use tokio::sync::{mpsc, oneshot};

use crate::{Looking, PathView, Speaker, SpeakerOptions};

/// Questions that may wait.
const QUEUE: usize = 32;

/// A question, for [`answer`].
pub struct Question(Kind);

enum Kind {
    Peers(oneshot::Sender<Vec<BgpPeer>>),
    Look(oneshot::Sender<Option<Looking>>),
    Paths(oneshot::Sender<Vec<PathView>>),
    Stations(oneshot::Sender<Vec<BmpStationReport>>),
    Identity(oneshot::Sender<Identity>),
}

impl Kind {
    /// Whoever asked has gone.
    fn is_closed(&self) -> bool {
        match self {
            Kind::Peers(reply) => reply.is_closed(),
            Kind::Look(reply) => reply.is_closed(),
            Kind::Paths(reply) => reply.is_closed(),
            Kind::Stations(reply) => reply.is_closed(),
            Kind::Identity(reply) => reply.is_closed(),
        }
    }
}

/// Who the speaker is, and what keeps it from starting.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// Its options, once it runs.
    pub options: Option<SpeakerOptions>,
    /// Why it does not run, or what needs a person's eye.
    pub problem: Option<String>,
}

/// Asks. Once nobody answers any more, answers are empty.
#[derive(Clone, Debug)]
pub struct Asking {
    questions: mpsc::Sender<Question>,
}

/// Both ends of a queue of questions; the owner of the speaker takes from it.
pub fn questions() -> (Asking, mpsc::Receiver<Question>) {
    let (questions, queue) = mpsc::channel(QUEUE);
    (Asking { questions }, queue)
}

/// Answers a question. Without a speaker there are no peers and no routes.
pub async fn answer(question: Question, speaker: Option<&Speaker>, problem: Option<&str>) {
    match question.0 {
        kind if kind.is_closed() => {}
        Kind::Peers(reply) => {
            let peers = match speaker {
                Some(speaker) => speaker.peers().await,
                None => Vec::new(),
            };
            drop(reply.send(peers));
        }
        Kind::Stations(reply) => {
            let stations = speaker.map(Speaker::stations);
            drop(reply.send(stations.unwrap_or_default()));
        }
        Kind::Look(reply) => drop(reply.send(speaker.map(Speaker::looking))),
        Kind::Paths(reply) => {
            let paths = match speaker {
                Some(speaker) => speaker.paths(None).await.unwrap_or_default(),
                None => Vec::new(),
            };
            drop(reply.send(paths));
        }
        Kind::Identity(reply) => drop(reply.send(Identity {
            options: speaker.map(|speaker| speaker.options().clone()),
            problem: problem.map(str::to_owned),
        })),
    }
}

impl Asking {
    async fn ask<T: Default>(&self, kind: impl FnOnce(oneshot::Sender<T>) -> Kind) -> T {
        let (reply, answer) = oneshot::channel();
        let question = Question(kind(reply));
        if self.questions.send(question).await.is_err() {
            return T::default();
        }
        answer.await.unwrap_or_default()
    }

    /// Every peer, in short.
    pub async fn peers(&self) -> Vec<PeerReport> {
        let peers = self.peers_at_length().await;
        peers.into_iter().map(|peer| peer.report).collect()
    }

    /// Every peer.
    pub async fn peers_at_length(&self) -> Vec<BgpPeer> {
        self.ask(Kind::Peers).await
    }

    /// Every BMP station.
    pub async fn stations(&self) -> Vec<BmpStationReport> {
        self.ask(Kind::Stations).await
    }

    /// Looks into the RIB, once the speaker runs.
    pub async fn look(&self) -> Option<Looking> {
        self.ask(Kind::Look).await
    }

    /// Every path of the RIB.
    pub async fn paths(&self) -> Vec<PathView> {
        self.ask(Kind::Paths).await
    }

    /// Who the speaker is.
    pub async fn identity(&self) -> Identity {
        self.ask(Kind::Identity).await
    }
}
