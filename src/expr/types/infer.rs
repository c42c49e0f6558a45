//! Walks a parsed expression and says what type it has, and what in it can never work.

use super::super::ast;
use super::super::errors::{ExprError, closest};
use super::super::functions::{self, Signature, greatest};
use super::super::limits::is_operator;
use super::super::schema::{Field, ObjectType};
use super::super::scope::Scope;
use super::{Type, kinds, operator, zero};
use cel::IdedExpr;
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, SourceInfo, operators};
use std::collections::{BTreeMap, BTreeSet};

/// What an expression comes to before any data.
pub(in super::super) struct Inferred {
    /// What kind of value it has.
    pub result: Type,
    /// What can never work.
    pub errors: Vec<ExprError>,
    /// Fields that there are not and that it asks for, with `has()` or `?`, before it reads them: another version of the
    /// kind may have them. And what fails for most of what it may meet, of which it does not ask first.
    pub doubts: Vec<ExprError>,
}

/// The type of an expression, and its mistakes.
pub(in super::super) fn infer(info: &SourceInfo, root: &IdedExpr, scope: &Scope) -> Inferred {
    let mut walk = Walk {
        info,
        scope,
        locals: Vec::new(),
        errors: Vec::new(),
        missing: Vec::new(),
        unsure: Vec::new(),
        asked: BTreeSet::new(),
        counts: BTreeMap::new(),
        negations: 0,
    };
    let result = walk.node(root);
    let (doubts, unasked): (Vec<_>, Vec<_>) =
        walk.missing.into_iter().partition(|(field, _)| walk.asked.contains(field));
    let texts = |found: Vec<(FieldOf, ExprError)>| found.into_iter().map(|(_, error)| error);
    walk.errors.extend(texts(unasked));
    let unsure: Vec<_> = walk.unsure.into_iter().filter(|(field, _)| !walk.asked.contains(field)).collect();
    Inferred { result, errors: walk.errors, doubts: texts(doubts).chain(texts(unsure)).collect() }
}

/// A field, with the name of the object that would have it.
type FieldOf = (String, String);

struct Walk<'a> {
    info: &'a SourceInfo,
    scope: &'a Scope,
    /// The variables of the loops around the node, the innermost last.
    locals: Vec<(&'a str, Type)>,
    errors: Vec<ExprError>,
    /// Fields that there are not.
    missing: Vec<(FieldOf, ExprError)>,
    /// What fails unless it is asked for a field first.
    unsure: Vec<(FieldOf, ExprError)>,
    /// Those whose being there is asked for somewhere: what an expression that asks does then is its own affair.
    asked: BTreeSet<FieldOf>,
    /// Counts that are left out while they are zero, by the nodes that read them.
    counts: BTreeMap<u64, FieldOf>,
    /// How many `!` are around the node.
    negations: usize,
}

impl Default for Inferred {
    fn default() -> Self {
        Self { result: Type::Any, errors: Vec::new(), doubts: Vec::new() }
    }
}

impl<'a> Walk<'a> {
    fn node(&mut self, node: &'a IdedExpr) -> Type {
        match &node.expr {
            Expr::Unspecified | Expr::Struct(_) => Type::Any,
            Expr::Ident(name) => self.variable(name),
            Expr::Literal(literal) => of_literal(literal),
            Expr::Select(_) if ast::is_type_name(node) => Type::Type,
            Expr::Select(select) => {
                let operand = self.node(&select.operand);
                let asks = select.test || matches!(operand, Type::Optional(_));
                let field = self.field(node, (&select.operand, &operand), &select.field, asks);
                if select.test { Type::Bool } else { field }
            }
            Expr::List(list) => {
                let items: Vec<Type> = list.elements.iter().map(|element| self.node(element)).collect();
                let optional = |at: usize| list.optional_indices.contains(&at);
                let items = items.into_iter().enumerate();
                let items = items.map(|(at, item)| if optional(at) { inner(item) } else { item });
                Type::list(items.fold(Type::NEVER, |all, one| all.or(&one)))
            }
            Expr::Map(map) => {
                let (mut keys, mut values) = (Type::NEVER, Type::NEVER);
                for entry in &map.entries {
                    let EntryExpr::MapEntry(entry) = &entry.expr else { continue };
                    keys = keys.or(&self.node(&entry.key));
                    let value = self.node(&entry.value);
                    values = values.or(&if entry.optional { inner(value) } else { value });
                }
                Type::map(keys, values)
            }
            Expr::Comprehension(loops) => self.comprehension(loops),
            Expr::Call(call) => self.call(node, call),
        }
    }

    fn wrong(&mut self, node: &IdedExpr, message: String) -> Type {
        self.errors.push(ExprError::new(message, ast::span(self.info, node)));
        Type::Any
    }

    fn quote(&self, node: &IdedExpr) -> String {
        ast::quote(self.info, node)
    }

    fn variable(&self, name: &str) -> Type {
        let name = name.trim_start_matches('.');
        if let Some((_, found)) = self.locals.iter().rev().find(|(local, _)| *local == name) {
            return found.clone();
        }
        match self.scope.type_of(name) {
            Some(found) => found.clone(),
            None => Type::Type,
        }
    }

    /// The type of a field of something, that is read or only asked for.
    fn field(
        &mut self,
        node: &'a IdedExpr,
        (operand, of): (&'a IdedExpr, &Type),
        name: &str,
        asks: bool,
    ) -> Type {
        match of {
            Type::Any => Type::Any,
            Type::Map(_, values) => (**values).clone(),
            Type::Optional(value) => Type::optional(self.field(node, (operand, value), name, asks)),
            Type::Object(object) => match object.field(name) {
                Field::Of(found) => {
                    self.read(node, object, name, asks);
                    found
                }
                Field::Missing => {
                    let names = object.names();
                    let message = format!("{object} has no field {name:?}");
                    let error = ExprError::new(message, ast::field_span(self.info, node, name));
                    let meant = closest(name, names.iter().map(String::as_str)).map(str::to_owned);
                    let field = (object.to_string(), name.to_owned());
                    self.missing.push((field.clone(), error.suggest(meant)));
                    self.asked.extend((asks && object.has_versions()).then_some(field));
                    Type::Any
                }
            },
            Type::OneOf(members) => {
                let has_fields = |one: &&Type| {
                    matches!(one, Type::Any | Type::Map(..) | Type::Object(_) | Type::Optional(_))
                };
                let found: Vec<&Type> = members.iter().filter(has_fields).collect();
                match found.as_slice() {
                    [] if !members.is_empty() => self.no_fields(node, operand, of),
                    [only] => self.field(node, (operand, only), name, asks),
                    _ => Type::Any,
                }
            }
            _ => self.no_fields(node, operand, of),
        }
    }

    /// Notes what is read, or only asked for, if it may not be there, or if it says which kind an object is of.
    fn read(&mut self, node: &IdedExpr, object: &ObjectType, name: &str, asks: bool) {
        let field = || (object.to_string(), name.to_owned());
        if kinds::is_told_by(object, name) {
            self.asked.insert(field());
        } else if zero::is_left_out(object, name) {
            if asks {
                self.asked.insert(field());
            } else {
                self.counts.insert(node.id, field());
            }
        }
    }

    fn no_fields(&mut self, node: &IdedExpr, operand: &IdedExpr, of: &Type) -> Type {
        let hint = if matches!(of, Type::List(_)) { "; did you mean one of its elements?" } else { "" };
        self.wrong(node, format!("{} is {of}, which has no fields{hint}", self.quote(operand)))
    }

    fn comprehension(&mut self, loops: &'a ComprehensionExpr) -> Type {
        let start = self.node(&loops.accu_init);
        let range = self.node(&loops.iter_range);
        let (keys, values) = range.elements().unwrap_or_else(|| {
            let message = format!("{} is {range}, not a list or map", self.quote(&loops.iter_range));
            let any = self.wrong(&loops.iter_range, message);
            (any.clone(), any)
        });
        let outer = self.locals.len();
        let single = match &range {
            Type::Map(..) | Type::Object(_) => &keys,
            // A list of the one or the keys of the other.
            Type::OneOf(_) => &Type::Any,
            _ => &values,
        };
        match &loops.iter_var2 {
            Some(second) => {
                self.locals.push((&loops.iter_var, keys));
                self.locals.push((second, values));
            }
            None => self.locals.push((&loops.iter_var, single.clone())),
        }
        self.locals.push((&loops.accu_var, start.clone()));
        self.node(&loops.loop_cond);
        let step = self.node(&loops.loop_step);
        if let Some(accumulator) = self.locals.last_mut() {
            accumulator.1 = start.or(&step);
        }
        let result = self.node(&loops.result);
        self.locals.truncate(outer);
        result
    }

    fn call(&mut self, node: &'a IdedExpr, call: &'a CallExpr) -> Type {
        let name = call.func_name.as_str();
        if is_operator(name) {
            let negates = usize::from(name == operators::LOGICAL_NOT);
            self.negations += negates;
            let operands: Vec<Type> = call.args.iter().map(|arg| self.node(arg)).collect();
            self.negations -= negates;
            self.of_a_zero(call);
            return self.operator(node, call, &operands);
        }
        let namespaced = self.namespaced(call);
        let target = call.target.as_deref().filter(|_| !namespaced).map(|target| self.node(target));
        let arguments: Vec<Type> = call.args.iter().map(|arg| self.node(arg)).collect();
        match name {
            "math.@max" | "math.@min" => return greatest(&arguments),
            "@sortByAssociatedKeys" => return target.unwrap_or(Type::Any),
            name if name.contains('@') => return Type::Any,
            _ => {}
        }
        match functions::called(call) {
            Some((signature, _)) => self.function(node, call, (signature, target.as_ref()), &arguments),
            None => Type::Any,
        }
    }

    fn namespaced(&self, call: &CallExpr) -> bool {
        let is_local =
            |name: &str| self.locals.iter().any(|(local, _)| *local == name) || self.scope.has(name);
        functions::namespace(call, is_local).is_some()
    }

    fn operator(&mut self, node: &'a IdedExpr, call: &'a CallExpr, operands: &[Type]) -> Type {
        match (call.func_name.as_str(), call.args.as_slice(), operands) {
            (operators::NOT_STRICTLY_FALSE, ..) => Type::Bool,
            (operators::CONDITIONAL, [condition, ..], [of, then, otherwise]) => {
                self.must_be_bool(condition, of);
                then.or(otherwise)
            }
            (operators::LOGICAL_AND | operators::LOGICAL_OR, [left, right], [of_left, of_right]) => {
                self.must_be_bool(left, of_left);
                self.must_be_bool(right, of_right);
                Type::Bool
            }
            (operators::LOGICAL_NOT, [operand], [of]) => {
                self.must_be_bool(operand, of);
                Type::Bool
            }
            (operators::EQUALS | operators::NOT_EQUALS, [left, right], [of_left, of_right]) => {
                if !of_left.may_equal(of_right) {
                    self.incomparable(node, [left, right], [of_left, of_right]);
                }
                Type::Bool
            }
            (operators::IN, [item, container], [of, container_of]) => {
                self.is_in(node, [item, container], [of, container_of])
            }
            (
                operators::INDEX | operators::OPT_INDEX | operators::OPT_SELECT,
                [operand, key],
                [of, key_of],
            ) => {
                let optional = call.func_name != operators::INDEX || matches!(of, Type::Optional(_));
                let found = self.element(node, [operand, key], [of, key_of], optional);
                if optional { Type::optional(found) } else { found }
            }
            (name, args, _) => match operator::result(name, operands) {
                Some(found) => found,
                None => self.operands(node, name, args, operands),
            },
        }
    }

    /// That a comparison finds nothing where the zero would be that should fulfil it. An expression that leaves the zero out
    /// means it so.
    fn of_a_zero(&mut self, call: &CallExpr) {
        let [left, right] = call.args.as_slice() else { return };
        let Some((read, holds)) = zero::compared(&call.func_name, [left, right]) else { return };
        let (Some(field), Expr::Select(select)) = (self.counts.get(&read.id).cloned(), &read.expr) else {
            return;
        };
        let is_meant = holds == self.negations.is_multiple_of(2);
        if !is_meant {
            self.asked.insert(field);
            return;
        }
        let within = &self.info.source[ast::span(self.info, &select.operand)];
        let message = format!("{} is left out while it is 0: this is not true then", self.quote(read));
        let error = ExprError::new(message, ast::span(self.info, read));
        self.unsure.push((field, error.suggest(Some(format!("{within}.?{}.orValue(0)", select.field)))));
    }

    fn must_be_bool(&mut self, node: &IdedExpr, of: &Type) {
        if !of.fits(&Type::Bool) {
            let message = format!("{} is {of}, not a bool", self.quote(node));
            self.wrong(node, message);
        }
    }

    fn is_in(
        &mut self,
        node: &IdedExpr,
        [item, container]: [&IdedExpr; 2],
        [of, within]: [&Type; 2],
    ) -> Type {
        match within.elements() {
            None => {
                let message = format!("{} is {within}, not a list or map", self.quote(container));
                self.wrong(container, message);
            }
            Some((keys, values)) => {
                let elements = if is_map(within) { keys } else { values };
                if !of.may_equal(&elements) {
                    let message = format!("{} is {of}, looked for among {elements}", self.quote(item));
                    self.wrong(node, message);
                }
                if let (Type::Object(object), Some(name)) = (within, ast::literal_text(item))
                    && object.has_versions()
                {
                    self.asked.insert((object.to_string(), name.to_owned()));
                }
            }
        }
        Type::Bool
    }

    /// What stands at an index or key.
    fn element(
        &mut self,
        node: &'a IdedExpr,
        [operand, key]: [&'a IdedExpr; 2],
        [of, key_of]: [&Type; 2],
        asks: bool,
    ) -> Type {
        let refuse = |walk: &mut Self| {
            let message = format!("{} is {of}, which has no elements at a {key_of}", walk.quote(operand));
            walk.wrong(node, message)
        };
        match of {
            Type::Any => Type::Any,
            Type::Optional(value) => self.element(node, [operand, key], [value, key_of], asks),
            Type::List(items) => {
                let position = Type::OneOf(vec![Type::Int, Type::Uint, Type::Double]);
                if key_of.fits(&position) { (**items).clone() } else { refuse(self) }
            }
            Type::Map(keys, values) => {
                if key_of.may_equal(keys) {
                    (**values).clone()
                } else {
                    refuse(self)
                }
            }
            Type::Object(_) => match ast::literal_text(key) {
                Some(name) => self.field(node, (operand, of), name, asks),
                None if key_of.fits(&Type::String) => Type::Any,
                None => refuse(self),
            },
            Type::OneOf(members)
                if members.is_empty() || members.iter().any(|one| one.elements().is_some()) =>
            {
                Type::Any
            }
            _ => refuse(self),
        }
    }

    /// An operator that is not for the types of its operands.
    fn operands(&mut self, node: &IdedExpr, name: &str, args: &[IdedExpr], operands: &[Type]) -> Type {
        let ([left, right], [of_left, of_right]) = (args, operands) else {
            let shown = args.first().map(|operand| self.quote(operand)).unwrap_or_default();
            let got = operands.first().map(ToString::to_string).unwrap_or_default();
            return self.wrong(node, format!("{shown} is {got}, not a number"));
        };
        let verb = match name {
            operators::ADD => "added to",
            operators::SUBSTRACT => "less",
            operators::MULTIPLY => "multiplied by",
            operators::DIVIDE | operators::MODULO => "divided by",
            _ => {
                self.incomparable(node, [left, right], [of_left, of_right]);
                return Type::Bool;
            }
        };
        let hint = remedy(of_left, of_right);
        self.wrong(node, format!("{} is {of_left}, {verb} {of_right}{hint}", self.quote(left)))
    }

    fn incomparable(&mut self, node: &IdedExpr, [left, _]: [&IdedExpr; 2], [of_left, of_right]: [&Type; 2]) {
        let hint = remedy(of_left, of_right);
        let message = format!("{} is {of_left}, compared with {of_right}{hint}", self.quote(left));
        self.wrong(node, message);
    }

    fn function(
        &mut self,
        node: &'a IdedExpr,
        call: &'a CallExpr,
        (signature, target): (&Signature, Option<&Type>),
        arguments: &[Type],
    ) -> Type {
        if let Some(found) = operator::call(signature, target, arguments) {
            if let Some(refusal) = kinds::refusal(signature, arguments) {
                return self.unsuited(node, arguments, refusal);
            }
            self.of_an_owner(node, call, (signature, arguments));
            return found;
        }
        let name = signature.name;
        let given: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let given = given.join(", ");
        let on = target.zip(call.target.as_deref());
        let message = match on {
            Some((of, _)) if takes_target(signature, of) => {
                format!("{name} does not take {given}{}", wanted(signature, Some(of)))
            }
            Some((of, target)) => {
                let hint = if matches!(of, Type::Optional(_)) { "; orValue() gives its value" } else { "" };
                format!("{} is {of}, which has no {name}({given}){hint}", self.quote(target))
            }
            None => format!("{name} does not take {given}{}", wanted(signature, None)),
        };
        // Whether it is the kind alone that does not suit.
        let mut others = arguments.to_vec();
        others.iter_mut().take(1).for_each(|first| *first = Type::Any);
        match operator::call(signature, target, &others) {
            Some(_) => self.unsuited(node, arguments, message),
            None => self.wrong(node, message),
        }
    }

    /// That a function does not take the kind of what it gets. Where no more is known than that kind, the expression may ask first.
    fn unsuited(&mut self, node: &IdedExpr, arguments: &[Type], message: String) -> Type {
        let Some(kind_of) = arguments.first().and_then(kinds::told_by) else {
            return self.wrong(node, message);
        };
        self.unsure.push((kind_of, ExprError::new(message, ast::span(self.info, node))));
        Type::Any
    }

    /// That a function takes an object, and gets what owns it.
    fn of_an_owner(
        &mut self,
        node: &IdedExpr,
        call: &CallExpr,
        (signature, arguments): (&Signature, &[Type]),
    ) {
        let Some(owner) = kinds::owner(signature, arguments) else { return };
        let kinds::Owner { wanted, owned, kind_of } = owner;
        let got = call.args.first().map(|got| self.quote(got)).unwrap_or_default();
        let message = format!(
            "{} takes {wanted}, and {got} is what owns the {owned}, if anything does; use what suits that, or target: object",
            signature.name
        );
        self.unsure.push((kind_of, ExprError::new(message, ast::span(self.info, node))));
    }
}

fn is_map(of: &Type) -> bool {
    matches!(of, Type::Map(..) | Type::Object(_))
}

/// The type within an optional.
fn inner(of: Type) -> Type {
    match of {
        Type::Optional(value) => (*value).clone(),
        other => other,
    }
}

fn takes_target(signature: &Signature, of: &Type) -> bool {
    signature.declarations.iter().filter_map(|one| one.target.as_ref()).any(|target| of.fits(target))
}

/// `; it takes Pod, int, duration`, where there is one way to call it, and each of these is one thing.
fn wanted(signature: &Signature, target: Option<&Type>) -> String {
    let mut fitting = signature.declarations.iter().filter(|one| match (target, &one.target) {
        (None, None) => true,
        (Some(of), Some(target)) => of.fits(target),
        _ => false,
    });
    match (fitting.next(), fitting.next()) {
        (Some(only), None) if !only.arguments.iter().any(Type::has_letter) => {
            let types: Vec<String> = only.arguments.iter().map(ToString::to_string).collect();
            format!("; it takes {}", types.join(", "))
        }
        _ => String::new(),
    }
}

/// What people forget when they bring two types together.
fn remedy(left: &Type, right: &Type) -> &'static str {
    let is = |wanted: &Type| [left, right].into_iter().any(|of| of == wanted);
    if matches!(left, Type::Optional(_)) != matches!(right, Type::Optional(_)) {
        "; orValue() gives the value of an optional"
    } else if is(&Type::String) && is(&Type::Timestamp) {
        "; timestamp() reads a time"
    } else if is(&Type::String) && is(&Type::Duration) {
        "; duration() reads a length of time"
    } else if is(&Type::Library("quantity")) {
        "; quantity() reads an amount"
    } else {
        ""
    }
}

fn of_literal(literal: &LiteralValue) -> Type {
    match literal {
        LiteralValue::Boolean(_) => Type::Bool,
        LiteralValue::Bytes(_) => Type::Bytes,
        LiteralValue::Double(_) => Type::Double,
        LiteralValue::Int(_) => Type::Int,
        LiteralValue::Null => Type::Null,
        LiteralValue::String(_) => Type::String,
        LiteralValue::UInt(_) => Type::Uint,
    }
}
