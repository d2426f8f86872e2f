//! What the attacks have become for people: incidents with the right severity, team and blast radius, told to the right
//! receiver, and no more of them than attacks.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::Value;

use crate::Result;
use crate::attacks::Attack;
use crate::hub::Hub;
use crate::receiver::{self, Receiver, Told};
use crate::report::{PATIENCE, Sent, number, text};

/// Severities, the worst last.
const SEVERITIES: [&str; 5] = ["informational", "low", "medium", "high", "critical"];

/// Asks the hub for its incidents and the receivers for what they heard, prints both; what is wrong.
pub(crate) async fn check(hub: &Hub, sent: &Sent, receiver: &Receiver) -> Result<Vec<String>> {
    let deadline = Instant::now() + PATIENCE;
    let attacks: Vec<Attack> = sent.attacks.iter().map(|(attack, _)| *attack).collect();
    let (incidents, told, mut wrong) = loop {
        let (incidents, told) = (hub.incidents().await?, receiver.told());
        let wrong = faults(&incidents, &told, &attacks, &sent.services);
        if wrong.is_empty() || Instant::now() > deadline {
            break (incidents, told, wrong);
        }
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    };
    println!(
        "\n{:<9}{:<10}{:<9}{:<10}what, and the services that its traces touched",
        "incident", "severity", "team", "told to"
    );
    for incident in incidents.iter().rev() {
        let (id, severity, team) = (number(incident, "id"), text(incident, "severity"), text(incident, "team"));
        let at: BTreeSet<&str> =
            told.iter().filter(|told| told.incident == id).map(|told| told.receiver).collect();
        let at = at.into_iter().collect::<Vec<_>>().join(", ");
        println!("{id:<9}{severity:<10}{team:<9}{at:<10}{}", texts(incident, "rules").join("; "));
        let touched = touched(incident);
        if !touched.is_empty() {
            println!("{:38}touched: {}", "", touched.into_iter().collect::<Vec<_>>().join(", "));
        }
    }
    if receiver.forged() > 0 {
        wrong.push(format!("{} messages to the receivers had no good signature", receiver.forged()));
    }
    Ok(wrong)
}

/// What is wrong with incidents and with who was told of them.
fn faults(incidents: &[Value], told: &[Told], attacks: &[Attack], services: &[&str]) -> Vec<String> {
    let mut wrong = Vec::new();
    if attacks.len() < incidents.len() && !attacks.is_empty() {
        wrong.push(format!("{} attacks have become {} incidents", attacks.len(), incidents.len()));
    }
    for attack in attacks {
        match incidents.iter().filter(|incident| has(incident, *attack)).count() {
            1 => {}
            0 => wrong.push(format!("{}: it is in no incident", attack.name())),
            count => wrong.push(format!("{}: it has become {count} incidents", attack.name())),
        }
    }
    for incident in incidents {
        let of: Vec<Attack> = attacks.iter().copied().filter(|attack| has(incident, *attack)).collect();
        let id = number(incident, "id");
        let said = of_attacks(incident, &of, services).into_iter().chain(routed(incident, told));
        wrong.extend(said.map(|what| format!("incident {id}: {what}")));
    }
    wrong
}

fn has(incident: &Value, attack: Attack) -> bool {
    texts(incident, "rules").iter().any(|rule| rule == attack.rule())
}

/// What is wrong with an incident of these attacks.
fn of_attacks(incident: &Value, attacks: &[Attack], services: &[&str]) -> Vec<String> {
    let mut wrong = Vec::new();
    let rank = |severity: &str| SEVERITIES.iter().position(|known| *known == severity);
    let Some(worst) = attacks.iter().map(|attack| attack.severity()).max_by_key(|severity| rank(severity))
    else {
        return wrong;
    };
    let (severity, team) = (text(incident, "severity"), text(incident, "team"));
    if severity != worst {
        wrong.push(format!("its severity is `{severity}`, not `{worst}`"));
    }
    let teams: BTreeSet<&str> =
        attacks.iter().map(|attack| receiver::team_of(attack.trail().service)).collect();
    if teams.len() != 1 || !teams.contains(team.as_str()) {
        wrong.push(format!("its team is `{team}`, not {teams:?}"));
    }
    let touched = touched(incident);
    let must: BTreeSet<String> =
        attacks.iter().flat_map(|attack| attack.touches()).map(|service| (*service).to_owned()).collect();
    // Traces of customers that run out of time lead anywhere.
    let may: BTreeSet<String> = if attacks.contains(&Attack::SlowDependency) {
        services.iter().map(|service| (*service).to_owned()).collect()
    } else {
        must.clone()
    };
    if !touched.is_superset(&must) || !touched.is_subset(&may) {
        wrong.push(format!("its traces touched {touched:?}; they must touch {must:?}, and at most {may:?}"));
    }
    wrong
}

/// What is wrong with who was told of an incident.
fn routed(incident: &Value, told: &[Told]) -> Vec<String> {
    let right = receiver::receiver_of(&text(incident, "severity"), &text(incident, "team"));
    let of_it = || told.iter().filter(|told| told.incident == number(incident, "id"));
    let mut wrong = Vec::new();
    if !of_it().any(|told| told.receiver == right && told.what == "incident.trigger") {
        wrong.push(format!("`{right}` was not told"));
    }
    let others: BTreeSet<&str> = of_it().map(|told| told.receiver).filter(|at| *at != right).collect();
    wrong.extend(others.iter().map(|at| format!("`{at}` was told, which is for `{right}`")));
    let page = format!("/incidents/{}", number(incident, "id"));
    let elsewhere = of_it().filter(|told| !told.url.ends_with(&page));
    wrong.extend(
        elsewhere.map(|told| format!("`{}` was sent to `{}`, which is not its page", told.receiver, told.url)),
    );
    wrong
}

/// Services of the blast radius.
fn touched(incident: &Value) -> BTreeSet<String> {
    let services = incident.pointer("/blast_radius/services").and_then(Value::as_array);
    services.into_iter().flatten().map(|service| text(service, "name")).collect()
}

fn texts(row: &Value, key: &str) -> Vec<String> {
    let list = row.get(key).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SERVICES: [&str; 4] = ["edge", "orders", "payment", "catalogue"];

    fn incident(id: u64, attack: Attack, severity: &str, team: &str, touched: &[&str]) -> Value {
        let services: Vec<Value> = touched.iter().map(|name| json!({"name": name})).collect();
        json!({
            "id": id, "severity": severity, "team": team, "rules": [attack.rule(), "Another"],
            "blast_radius": {"services": services},
        })
    }

    fn told(incident: u64, receiver: &'static str) -> Told {
        let url = format!("https://localhost:1/incidents/{incident}");
        Told { incident, receiver, what: "incident.trigger".to_owned(), title: String::new(), url }
    }

    #[test]
    fn whatever_is_not_as_it_must_be_is_said() {
        let attacks = [Attack::ForgedTokens, Attack::PathScan, Attack::SlowDependency];
        let forged = |severity, team, touched: &[&str]| incident(1, attacks[0], severity, team, touched);
        let good = forged("high", "shop", &["edge", "orders"]);
        let scan = incident(2, attacks[1], "medium", "front", &["edge"]);
        let slow = incident(3, attacks[2], "medium", "front", &["edge", "payment", "orders"]);
        let right = [told(1, "pager"), told(2, "front"), told(3, "front")];
        let of = |first: &Value, told: &[Told]| {
            faults(&[first.clone(), scan.clone(), slow.clone()], told, &attacks, &SERVICES)
        };
        assert_eq!(of(&good, &right), Vec::<String>::new());
        for (first, told, want) in [
            (forged("medium", "shop", &["edge", "orders"]), &right[..], "severity is `medium`, not `high`"),
            (forged("high", "front", &["edge", "orders"]), &right[..], "team is `front`"),
            (forged("high", "", &["edge", "orders"]), &right[..], "team is ``"),
            (forged("high", "shop", &["edge"]), &right[..], "traces touched"),
            (forged("high", "shop", &["edge", "orders", "payment"]), &right[..], "traces touched"),
            (
                incident(1, Attack::PathScan, "medium", "front", &["edge"]),
                &right[..],
                "forged tokens: it is in no",
            ),
            (good.clone(), &right[1..], "`pager` was not told"),
            (
                good.clone(),
                &[&right[..], &[told(1, "shop")]].concat()[..],
                "`shop` was told, which is for `pager`",
            ),
        ] {
            let wrong = of(&first, told).join("; ");
            assert!(wrong.contains(want), "{want}: {wrong}");
        }
        let lost = Told { url: "https://localhost:1/incidents/11".to_owned(), ..right[0].clone() };
        let wrong = of(&good, &[lost, right[1].clone(), right[2].clone()]).join("; ");
        assert!(wrong.contains("which is not its page"), "{wrong}");
        let twice = [good.clone(), incident(9, attacks[0], "high", "shop", &["edge", "orders"])];
        let wrong = faults(&twice, &[told(1, "pager"), told(9, "pager")], &attacks[..1], &SERVICES).join("; ");
        assert!(wrong.contains("has become 2 incidents"), "{wrong}");
    }
}
