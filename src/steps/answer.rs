//! The answer that an instance should give to a question.

use async_trait::async_trait;

use super::sql::Query;
use crate::finding::Finding;
use crate::step::{Observation, Step};

/// An instance should give an answer: rows one below the other, columns separated by `|`.
pub struct Answers {
    /// The question, with the instance that is asked.
    pub question: Query,
    /// The answer.
    pub answer: String,
}

#[async_trait]
impl Step for Answers {
    fn id(&self) -> String {
        "answer".to_owned()
    }

    fn title(&self) -> String {
        format!("have the instance {} answer as expected", self.question.instance)
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        Ok(match self.question.ask().await? {
            Ok(answer) if answer == self.answer => Observation::satisfied(format!("it answers {answer:?}")),
            Ok(answer) => Observation::unmet(format!("it answers {answer:?}, not {:?}", self.answer)),
            Err(why) => Observation::unmet(why),
        })
    }

    /// A question has done nothing that anybody would have to be told.
    async fn call_off(&self) -> Option<String> {
        self.question.call_off().await;
        None
    }
}
