//! Answers: each counts for its principal until its last byte has been written.
//!
//! The count goes with the bytes themselves, wherever HTTP/2 keeps them. What is not read at all
//! stays there: HTTP/2 takes an answer at once and sends it as far as its reader lets it.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::{
    Status,
    body::Body,
    codegen::{
        Bytes,
        http::{HeaderMap, Request, Response},
    },
};

use crate::{
    access::Call,
    server::admission::call_of,
    service::{Reader, Weight, status::Refusal},
};

/// How the answer of a call counts.
#[derive(Clone, Debug)]
pub(in crate::server) struct Counting {
    reader: Reader,
    /// Whether it has to be given whatever it counts.
    is_owed: bool,
}

impl Counting {
    /// Lets a call begin if there is room for an answer. None for the streams whose messages
    /// their maker counts.
    pub(super) fn begin(
        request: &mut Request<Body>,
        reader: Reader,
    ) -> Result<Option<Counting>, Refusal> {
        reader.check()?;
        request.extensions_mut().insert(reader.clone());
        Ok(Counting::of(request, reader))
    }

    fn of(request: &Request<Body>, reader: Reader) -> Option<Counting> {
        match call_of(request.uri().path()) {
            Some(Call::WatchEvents | Call::TailLog) => None,
            call => Some(Counting { reader, is_owed: call.is_some_and(Call::is_change) }),
        }
    }

    /// The answer, counted.
    pub(super) fn count(self, response: Response<Body>) -> Response<Body> {
        if response.body().is_end_stream() {
            return response;
        }
        response.map(|inner| Body::new(CountedBody { inner, counting: self }))
    }

    fn weigh(&self, bytes: &Bytes) -> Result<Weight, Refusal> {
        let length = bytes.len() as u64;
        if self.is_owed { Ok(self.reader.give(length)) } else { self.reader.offer(length) }
    }
}

/// The body of an answer, which ends with a refusal if there is too much unread.
struct CountedBody {
    inner: Body,
    counting: Counting,
}

/// Bytes that count.
struct Counted {
    bytes: Bytes,
    _weight: Weight,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl HttpBody for CountedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
            Some(Ok(frame)) => frame,
            other => return Poll::Ready(other),
        };
        let frame = match frame.into_data() {
            Ok(bytes) => match self.counting.weigh(&bytes) {
                Ok(weight) => Frame::data(Bytes::from_owner(Counted { bytes, _weight: weight })),
                Err(refusal) => {
                    self.inner = Body::empty();
                    let mut trailers = HeaderMap::new();
                    Status::from(refusal).add_header(&mut trailers)?;
                    Frame::trailers(trailers)
                }
            },
            Err(frame) => frame,
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, future::poll_fn};

    use tonic::Code;
    use tonic_types::StatusExt as _;

    use super::*;
    use crate::service::Unread;

    const MIB: usize = 1024 * 1024;

    /// Frames that are there already.
    struct Frames(VecDeque<Frame<Bytes>>);

    impl HttpBody for Frames {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Ready(self.0.pop_front().map(Ok))
        }

        fn is_end_stream(&self) -> bool {
            self.0.is_empty()
        }
    }

    /// The answer of a call with so many bytes and a trailer.
    fn answer(reader: &Reader, call: &str, bytes: usize) -> Body {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = format!("/jobwarden.v1.JobService/{call}").parse().unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        let frames = [Frame::data(Bytes::from(vec![b'x'; bytes])), Frame::trailers(trailers)];
        let response = Response::new(Body::new(Frames(frames.into())));
        match Counting::of(&request, reader.clone()) {
            Some(counting) => counting.count(response).into_body(),
            None => response.into_body(),
        }
    }

    async fn next(body: &mut Body) -> Option<Frame<Bytes>> {
        poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await.map(Result::unwrap)
    }

    /// What is read of answers until one is refused, and the refusal.
    async fn fill(reader: &Reader) -> (Vec<Bytes>, Status) {
        let mut unread = Vec::new();
        loop {
            let frame = next(&mut answer(reader, "Status", MIB)).await.unwrap();
            match frame.into_data() {
                Ok(bytes) => unread.push(bytes),
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap();
                    return (unread, Status::from_header_map(&trailers).unwrap());
                }
            }
        }
    }

    #[tokio::test]
    async fn an_answer_passes_through_with_its_trailers() {
        let reader = Unread::of_answers().reader("ada");
        for call in ["Status", "Exec", "TailLog", "Unknown"] {
            let mut body = answer(&reader, call, 3);
            assert_eq!(next(&mut body).await.unwrap().into_data().unwrap(), "xxx");
            assert!(!body.is_end_stream());
            let trailers = next(&mut body).await.unwrap().into_trailers().unwrap();
            assert_eq!(trailers["grpc-status"], "0");
            assert!(body.is_end_stream() && next(&mut body).await.is_none());
        }
    }

    #[tokio::test]
    async fn an_answer_counts_until_its_last_byte_is_gone() {
        let unread = Unread::of_answers();
        let reader = unread.reader("ada");
        let (mut answers, refusal) = fill(&reader).await;
        assert_eq!(answers.len(), 63);
        assert_eq!(refusal.code(), Code::ResourceExhausted);
        assert_eq!(refusal.get_details_error_info().unwrap().metadata["bound"], "answer_bytes");
        // Its body is gone, and all but a byte of it has been written.
        let rest = answers.pop().unwrap().split_off(MIB - 1);
        assert!(reader.offer(MIB as u64).is_err());
        drop(rest);
        assert!(reader.offer(MIB as u64).is_ok());
        assert!(!fill(&unread.reader("bob")).await.0.is_empty());
        drop(answers);
        assert_eq!(fill(&reader).await.0.len(), 63);
    }

    #[tokio::test]
    async fn a_refused_answer_ends_and_one_that_is_owed_is_given() {
        let reader = Unread::of_answers().reader("ada");
        let (answers, _) = fill(&reader).await;
        let mut refused = answer(&reader, "List", MIB);
        assert!(next(&mut refused).await.unwrap().is_trailers());
        assert!(refused.is_end_stream() && next(&mut refused).await.is_none());
        for call in ["Exec", "Cancel", "Kill", "Delete", "Rerun", "UpdateLabels", "UpdateTimeout"] {
            let mut owed = answer(&reader, call, MIB);
            assert_eq!(next(&mut owed).await.unwrap().into_data().unwrap().len(), MIB);
        }
        drop(answers);
    }
}
