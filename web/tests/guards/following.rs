//! Pages that follow changes, by their streams: what comes when, and how they end with the session.

use crate::stub::REDS;
use crate::{DEADLINE, World, between, location};
use anyhow::Context as _;
use reqwest::{Response, StatusCode};

/// Reads a stream until it has brought this.
async fn until(stream: &mut Response, text: &mut String, wanted: &str) -> anyhow::Result<()> {
    while !text.contains(wanted) {
        let chunk =
            tokio::time::timeout(DEADLINE, stream.chunk()).await.with_context(|| format!("no `{wanted}`"))??;
        let chunk = chunk.with_context(|| format!("the stream ended before `{wanted}`: {text}"))?;
        text.push_str(std::str::from_utf8(&chunk)?);
    }
    Ok(())
}

#[tokio::test]
async fn a_page_that_connects_gets_all_there_is_and_then_changes_until_its_session_ends() -> anyhow::Result<()> {
    let world = World::start()?;
    let ann = world.sign_in("ann").await?;
    // The page is of before this change, as after a time in the background.
    world.api.rename("changed meanwhile")?;
    let mut stream = world.get(&ann, "/live?of=%2Fnetworks").send().await?;
    assert_eq!(stream.headers().get("x-accel-buffering").map(|value| value.as_bytes()), Some(b"no".as_slice()));
    let mut text = String::new();
    until(&mut stream, &mut text, "changed meanwhile").await?;
    world.api.rename("x\r\revent: end\rdata: x\r\r")?;
    until(&mut stream, &mut text, "data: event: end").await?;
    world.api.rename("once more")?;
    until(&mut stream, &mut text, "once more").await?;
    let events = text.replace("\nevent: wait", "");
    assert!(!text.contains('\r') && !events.contains("\nevent:"), "a name began a field of the stream: {text}");
    let out = world.post(&ann, "/logout", &[("csrf", &ann.csrf)]).send().await?;
    assert_eq!(out.status(), StatusCode::SEE_OTHER);
    until(&mut stream, &mut text, "Your session has ended").await?;
    until(&mut stream, &mut text, "event: end\ndata: end\n\n").await?;
    world.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_page_that_was_just_made_gets_by_its_stream_what_it_does_not_have() -> anyhow::Result<()> {
    let world = World::start()?;
    let ann = world.sign_in("ann").await?;
    for path in ["/networks".to_owned(), format!("/networks/{REDS}"), "/map".into()] {
        let page = world.get(&ann, &path).send().await?.text().await?;
        let live = between(&page, "data-live=\"", "\"")?.replace("&#38;", "&");
        let mut stream = world.get(&ann, &live).send().await?;
        let mut text = String::new();
        until(&mut stream, &mut text, "\n\n").await?;
        assert!(text.contains("hx-target=\"#age\"") && text.matches("hx-target").count() == 1, "{path}: {text}");
        // Whoever comes back, or was made long ago, gets all of it.
        let long_ago = live.replace("made=1", "made=");
        for again in [world.get(&ann, &live).header("last-event-id", ""), world.get(&ann, &long_ago)] {
            let (mut again, mut text) = (again.send().await?, String::new());
            until(&mut again, &mut text, "\n\n").await?;
            assert!(text.matches("hx-target").count() > 1, "{path}: {text}");
        }
        let name = format!("renamed by {path}");
        world.api.rename(&name)?;
        until(&mut stream, &mut text, &name).await?;
    }
    world.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_page_that_comes_back_while_the_api_is_away_is_told_so_and_goes_on_after() -> anyhow::Result<()> {
    let world = World::start()?;
    let ann = world.sign_in("ann").await?;
    world.api.away(true);
    let again = world.get(&ann, "/live?of=%2Fnetworks").header("last-event-id", "12:00:01 UTC");
    let mut stream = again.send().await?;
    assert_eq!(stream.status(), StatusCode::OK);
    let mut text = String::new();
    until(&mut stream, &mut text, "\n\n").await?;
    assert!(text.starts_with("id: 12:00:01 UTC\n"), "{text}");
    assert!(text.contains("does not answer") && text.contains("As of 12:00:01 UTC"), "{text}");
    // Who asks for the page as it is now is told too, and that it is not there.
    let once = world.get(&ann, "/live?of=%2Fnetworks&once=1").send().await?;
    assert_eq!(once.status(), StatusCode::BAD_GATEWAY);
    assert!(once.text().await?.contains("hx-target=\"#age\""));
    world.api.away(false);
    until(&mut stream, &mut text, "front").await?;
    drop(stream);
    world.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_session_whose_token_has_run_out_leads_to_signing_in_and_back() -> anyhow::Result<()> {
    let world = World::start()?;
    world.api.tokens_live(chrono::TimeDelta::seconds(4));
    let ann = world.sign_in("ann").await?;
    let asked_for = "/networks?status=ACTIVE";
    // An open page says so by itself: nobody signs out, and no program is restarted.
    let mut stream = world.get(&ann, "/live?of=%2Fnetworks%3Fstatus%3DACTIVE").send().await?;
    let mut text = String::new();
    until(&mut stream, &mut text, "front").await?;
    until(&mut stream, &mut text, "Your session has ended").await?;
    world.api.asked();
    let refused = world.get(&ann, asked_for).send().await?;
    assert_eq!(refused.status(), StatusCode::SEE_OTHER);
    let to = location(&refused).to_owned();
    assert!(to.starts_with("/login?") && to.ends_with("&ended=page"), "{to}");
    let page = world.get(&ann, &to).send().await?.text().await?;
    let next = between(&page, "name=\"next\" value=\"", "\"")?.to_owned();
    // What its form sends is not done.
    let form = world.post(&ann, "/networks", &[("csrf", &ann.csrf), ("name", "late")]);
    let late = form.header("referer", world.at("/networks/new")).send().await?;
    assert_eq!(late.status(), StatusCode::SEE_OTHER);
    assert!(location(&late).ends_with("&ended=form"), "{}", location(&late));
    let asked: Vec<String> = world.api.asked().into_iter().map(|asked| asked.what).collect();
    assert!(!asked.iter().any(|what| what.contains("networks")), "{asked:?}");
    world.api.tokens_live(chrono::TimeDelta::hours(1));
    assert_eq!(location(&world.enter("ann", &next).await?), asked_for);
    world.stop().await;
    Ok(())
}
