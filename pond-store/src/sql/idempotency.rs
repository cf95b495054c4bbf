//! Requests that are carried out once.

use async_trait::async_trait;
use pond_core::clock::Timestamp;
use pond_core::idempotency::{Attempt, Begun, Content, Kept, OnceStore};
use pond_core::store::StoreError;

use super::Sql;
use super::db::{Arg, Text, args};
use super::row::Cells;
use crate::error::unavailable;

fn begun(cells: &Cells<'_>, attempt: &Attempt) -> Result<Begun, StoreError> {
    if cells.array::<32>(1, "body")? != attempt.body {
        return Ok(Begun::Mismatch);
    }
    let Some(status) = cells.maybe_int(2, "status")? else {
        return Ok(Begun::UnderWay);
    };
    let content = match (cells.maybe_text(4, "made_id")?, cells.maybe_bytes(5, "answer")?) {
        (Some(id), None) => Content::Id(id),
        (None, Some(answer)) => Content::Whole(answer),
        _ => return Err(cells.corrupt("answer")),
    };
    Ok(Begun::Done(Kept {
        status: u16::try_from(status).map_err(|_| cells.corrupt("status"))?,
        location: cells.maybe_text(3, "location")?,
        content,
    }))
}

#[async_trait]
impl OnceStore for Sql {
    async fn begin_once(&self, attempt: Attempt) -> Result<Begun, StoreError> {
        // One row changed says: the first, or the first since the former one had its time.
        let begin = "INSERT INTO once (id, body, nonce, expires_at) VALUES ($1, $2, $3, $4)
                     ON CONFLICT (id) DO UPDATE
                     SET body = excluded.body, nonce = excluded.nonce, expires_at = excluded.expires_at,
                         status = NULL, location = NULL, made_id = NULL, answer = NULL
                     WHERE once.expires_at <= $5";
        let id = attempt.id.to_vec();
        let args = args![
            id.clone(),
            attempt.body.to_vec(),
            attempt.nonce.to_vec(),
            attempt.until.micros(),
            attempt.now.micros(),
        ];
        if self.db.write(begin, args).await.map_err(unavailable)? == 1 {
            return Ok(Begun::First);
        }
        let look = "SELECT id, body, status, location, made_id, answer FROM once WHERE id = $1";
        let row = self.db.read_one(look, args![id]).await.map_err(unavailable)?;
        // It was forgotten in between: whoever asks again is the first.
        row.map_or(Ok(Begun::UnderWay), |row| begun(&row.cells("once"), &attempt))
    }

    async fn finish_once(
        &self,
        id: [u8; 32],
        nonce: [u8; 16],
        kept: Kept,
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        let text = "UPDATE once SET status = $3, location = $4, made_id = $5, answer = $6, expires_at = $7
                    WHERE id = $1 AND nonce = $2";
        let (made_id, answer) = match kept.content {
            Content::Id(id) => (Some(id), None),
            Content::Whole(answer) => (None, Some(answer)),
        };
        let args = vec![
            id.to_vec().into(),
            nonce.to_vec().into(),
            Arg::Int(kept.status.into()),
            Arg::MaybeText(kept.location),
            Arg::MaybeText(made_id),
            Arg::MaybeBlob(answer),
            until.micros().into(),
        ];
        Ok(self.db.write(text, args).await.map_err(unavailable)? == 1)
    }

    async fn abandon_once(&self, id: [u8; 32], nonce: [u8; 16]) -> Result<(), StoreError> {
        let text = "DELETE FROM once WHERE id = $1 AND nonce = $2";
        let args = args![id.to_vec(), nonce.to_vec()];
        self.db.write(text, args).await.map(drop).map_err(unavailable)
    }

    async fn sweep_once(&self, now: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let text: Text = "DELETE FROM once WHERE id IN
                          (SELECT id FROM once WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)"
            .into();
        let args = args![now.micros(), limit];
        self.db.write(text, args).await.map_err(unavailable)
    }
}
