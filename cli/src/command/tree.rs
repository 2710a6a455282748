//! From resources to arguments.

use super::render::Format;
use super::resource::{Kind, Opt, Resource, Verb};
use clap::builder::{EnumValueParser, PossibleValuesParser};
use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command, value_parser};

/// The command of a noun with its verbs.
pub fn noun(resource: &'static Resource) -> Command {
    let command = Command::new(resource.noun).about(format!("{}: {}", capital(resource.a), verbs(resource)));
    let command = command.subcommand_required(true).arg_required_else_help(true).disable_help_subcommand(true);
    resource.verbs.iter().fold(command, |command, verb| command.subcommand(leaf(resource, *verb)))
}

fn capital(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

fn verbs(resource: &Resource) -> String {
    resource.verbs.iter().map(|verb| verb.name()).collect::<Vec<_>>().join(", ")
}

impl Verb {
    /// As it is typed.
    pub fn name(self) -> &'static str {
        self.parts().0
    }

    fn parts(self) -> (&'static str, &'static str) {
        match self {
            Self::List(example) => ("list", example),
            Self::Show(example) => ("show", example),
            Self::Create(example) => ("create", example),
            Self::Set(example) => ("set", example),
            Self::Unset(example) => ("unset", example),
            Self::Delete(example) => ("delete", example),
            Self::Act(act) => (act.name, act.example),
        }
    }
}

fn leaf(resource: &'static Resource, verb: Verb) -> Command {
    let (name, example) = verb.parts();
    let command = Command::new(name).after_help(format!("Example:\n  mizar {} {name} {example}", resource.noun));
    let command = parent(resource).into_iter().fold(command, Command::arg);
    let a = resource.a;
    match verb {
        Verb::List(_) => list(resource, command.about(format!("List: every {} one sees", bare(a)))),
        Verb::Show(_) => waiting(resource, output(command.about(format!("Show {a}")).arg(object(resource)))),
        Verb::Create(_) => {
            let options = resource.options.iter().filter(|opt| opt.create).flat_map(|opt| arguments(opt, Use::Create));
            let command = command.about(format!("Make {a}")).args(options);
            waiting(resource, output(tagged(resource, command, "Tag it so; may be repeated")))
        }
        Verb::Set(_) => {
            let options = resource.options.iter().filter(|opt| opt.set).flat_map(|opt| arguments(opt, Use::Set));
            let command =
                command.about(format!("Change {a}; what is a list gets longer")).arg(object(resource)).args(options);
            waiting(resource, output(tagged(resource, command, "Tag to add; may be repeated")))
        }
        Verb::Unset(_) => {
            let removable = resource.options.iter().filter(|opt| opt.set && (opt.empty.is_some() || opt.many));
            let command = command.about(format!("Take something away from {a}")).arg(object(resource));
            let command = command.args(removable.flat_map(|opt| arguments(opt, Use::Unset)));
            output(tagged(resource, command, "Tag to remove; may be repeated"))
        }
        Verb::Delete(_) => {
            let command = command.about(format!("Delete {a}, or several; the first that cannot be deleted ends it"));
            command.arg(object(resource).num_args(1..))
        }
        Verb::Act(act) => {
            let command = command.about(act.about).arg(object(resource));
            let command = command.args(act.options.iter().flat_map(|opt| arguments(opt, Use::Set)));
            output(command.group(ArgGroup::new("what").args(act.options.iter().map(|opt| opt.flag)).required(true)))
        }
    }
}

/// The argument that says of which object it is a part.
fn parent(resource: &Resource) -> Option<Arg> {
    let (noun, word) = resource.parent?;
    let help = format!("Name or id of {}", super::tables::of(noun).a);
    Some(Arg::new("parent").value_name(word).required(true).help(help))
}

fn bare(a: &str) -> &str {
    a.strip_prefix("an ").or(a.strip_prefix("a ")).unwrap_or(a)
}

fn list(resource: &'static Resource, command: Command) -> Command {
    let filters = resource.options.iter().filter(|opt| opt.filter).flat_map(|opt| arguments(opt, Use::Filter));
    let command = command.args(filters);
    let command = tagged(resource, command, "Only what has this tag; may be repeated: all of them");
    let text =
        |id: &'static str, value: &'static str, help: &'static str| Arg::new(id).long(id).value_name(value).help(help);
    output(command).args([
        text(
            "filter",
            "ATTRIBUTE=VALUE",
            "Only what has this value; any attribute the API filters by; may be repeated",
        )
        .action(ArgAction::Append),
        text("sort", "ATTRIBUTE[:desc]", "Order; may be repeated, the first decides").action(ArgAction::Append),
        text("limit", "N", "At most so many; otherwise all pages are fetched")
            .value_parser(value_parser!(u32).range(1..)),
        Arg::new("long").long("long").action(ArgAction::SetTrue).help("More columns"),
    ])
}

fn tagged(resource: &Resource, command: Command, help: &'static str) -> Command {
    if !resource.tags {
        return command;
    }
    command.arg(Arg::new("tag").long("tag").value_name("TAG").action(ArgAction::Append).help(help))
}

fn object(resource: &Resource) -> Arg {
    let help = match resource.key {
        Some("name") => "Name or id",
        Some(_) => "Address or id",
        None => "Id",
    };
    let value = if resource.key.is_some() { "NAME" } else { "ID" };
    Arg::new("object").value_name(value).required(true).help(help)
}

/// Arguments of every verb that shows something.
pub fn output(command: Command) -> Command {
    command.args([
        Arg::new("output")
            .short('o')
            .long("output")
            .value_name("FORMAT")
            .value_parser(EnumValueParser::<Format>::new())
            .default_value("table")
            .hide_possible_values(true)
            .help("table, json, yaml or value; json and yaml have whole objects unless columns are named"),
        Arg::new("column")
            .short('c')
            .long("column")
            .value_name("ATTRIBUTE")
            .action(ArgAction::Append)
            .help("Only this attribute; may be repeated"),
    ])
}

fn waiting(resource: &Resource, command: Command) -> Command {
    if !resource.waits {
        return command;
    }
    command.args([
        Arg::new("wait")
            .long("wait")
            .action(ArgAction::SetTrue)
            .help("Wait until it is ACTIVE; ends with 10 if it goes to ERROR, with 9 if it takes too long"),
        Arg::new("wait-timeout")
            .long("wait-timeout")
            .value_name("SECONDS")
            .value_parser(value_parser!(u32).range(1..=86_400))
            .default_value("60")
            .requires("wait")
            .help("How long"),
    ])
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Create,
    Set,
    Unset,
    Filter,
}

fn arguments(opt: &'static Opt, purpose: Use) -> Vec<Arg> {
    if let Kind::Switch(on, off) = opt.kind {
        let flag = |id: &'static str| Arg::new(id).long(id).action(ArgAction::SetTrue);
        return vec![flag(on).help(opt.help).conflicts_with(off), flag(off).help(format!("Not --{on}"))];
    }
    if purpose == Use::Unset && !opt.many {
        return vec![Arg::new(opt.flag).long(opt.flag).action(ArgAction::SetTrue).help(format!("{}: none", opt.help))];
    }
    let mut arg = Arg::new(opt.flag).value_name(value_name(opt)).help(opt.help);
    if purpose == Use::Create && opt.positional {
        arg = arg.required(opt.required);
    } else {
        arg = arg.long(opt.flag);
    }
    arg = match opt.kind {
        Kind::Integer => arg.value_parser(value_parser!(i64)).allow_negative_numbers(true),
        Kind::OneOf(words) => arg.value_parser(PossibleValuesParser::new(words)),
        _ => arg,
    };
    if opt.many || purpose == Use::Filter {
        arg = arg.action(ArgAction::Append).help(format!("{}; may be repeated", opt.help));
    }
    if purpose == Use::Create {
        if !opt.positional {
            arg = arg.required(opt.required);
        }
        if let Some(word) = opt.default {
            arg = arg.default_value(word);
        }
    }
    vec![arg]
}

fn value_name(opt: &Opt) -> &'static str {
    match opt.kind {
        Kind::Integer => "N",
        Kind::Ref(_) | Kind::RefOf(..) | Kind::Project | Kind::Projects => "NAME",
        Kind::Pairs(_) => "KEY=VALUE,…",
        _ if opt.positional => "NAME",
        _ => "VALUE",
    }
}

/// The words given for an option.
pub fn words(matches: &ArgMatches, opt: &Opt) -> Vec<String> {
    match opt.kind {
        Kind::Integer => matches.get_many::<i64>(opt.flag).into_iter().flatten().map(i64::to_string).collect(),
        Kind::Switch(on, off) => match (matches.get_flag(on), matches.get_flag(off)) {
            (true, _) => vec![on.into()],
            (_, true) => vec![off.into()],
            _ => Vec::new(),
        },
        _ => many(matches, opt.flag),
    }
}

/// The words of a repeated argument.
pub fn many(matches: &ArgMatches, id: &str) -> Vec<String> {
    matches.get_many::<String>(id).into_iter().flatten().cloned().collect()
}

/// The words of a repeated argument that only some nouns have.
pub fn many_if_known(matches: &ArgMatches, id: &str) -> Vec<String> {
    matches.try_get_many::<String>(id).ok().flatten().into_iter().flatten().cloned().collect()
}
