//! Templates: types, escapes, and where their errors are.

use super::{bindings, sample, scope};
use crate::expr::{Template, TemplateTree};
use serde_json::{Value, json};

fn template(source: &str) -> Template {
    Template::compile(source, &scope()).unwrap_or_else(|errors| panic!("{source}: {errors:?}"))
}

#[test]
fn a_whole_expression_keeps_its_type_and_parts_become_text() {
    for (source, expected) in [
        ("", json!("")),
        ("plain $ { }} text", json!("plain $ { }} text")),
        ("${{ object.spec.replicas }}", json!(3)),
        ("${{object.spec.containers[0]}}", json!({"name": "app", "image": "web:1.2", "memory": "500Mi"})),
        ("${{ quantity('500Mi') + quantity('268Mi') }}", json!("768Mi")),
        (" ${{ object.spec.replicas }}", json!(" 3")),
        ("${{ object.metadata.name }}-${{ object.spec.replicas }}", json!("web-3")),
        ("é ${{ object.metadata.name }} é", json!("é web é")),
        ("is ${{ object.spec.paused }}", json!("is null")),
        ("${{ object.spec.ratio }} of ${{ [1, 'a'] }}", json!("0.5 of [1,\"a\"]")),
        ("$${{ object }}", json!("${{ object }}")),
        ("$${{ a }} ${{ 1 }}", json!("${{ a }} 1")),
        ("$$${{ 1 }}", json!("$${{ 1 }}")),
        ("${{ {'a': {'b': 1}}['a']['b'] }}", json!(1)),
        ("${{ {'a': {'b': 1}}}}", json!({"a": {"b": 1}})),
        ("${{ '}}' + \"}}\" + '\\'}}' }}", json!("}}}}'}}")),
    ] {
        assert_eq!(template(source).render(&bindings(&sample())), Ok(expected), "{source}");
    }
    let text = template("${{ object.spec.replicas }}").render_text(&bindings(&sample()));
    assert_eq!(text.as_deref(), Ok("3"));
}

#[test]
fn mistakes_are_placed_in_the_whole_string() {
    for (source, span, expected) in [
        ("a ${{ objet.x }}", "objet", "unknown variable \"objet\"; did you mean \"object\"?"),
        ("é ${{ 1 + }} b", "", "unexpected end of expression"),
        ("a ${{ object", "${{", "\"${{\" is not closed with \"}}\""),
        ("${{ 'a }}", "${{", "\"${{\" is not closed with \"}}\""),
        ("${{}}", "", "expression is empty"),
    ] {
        let errors = Template::compile(source, &scope()).unwrap_err();
        assert_eq!(errors.len(), 1, "{source}");
        assert_eq!(errors[0].to_string(), expected, "{source}");
        assert_eq!(&source[errors[0].span.clone()], span, "{source}");
    }
    let all = Template::compile("${{ nope() }} ${{ zebra }}", &scope()).unwrap_err();
    assert_eq!(all.len(), 2);

    let source = "name: ${{ object.metadata.nope }}";
    let error = template(source).render(&bindings(&sample())).unwrap_err();
    assert_eq!(error.to_string(), "object.metadata.nope is absent");
    assert_eq!(&source[error.span], "object.metadata.nope");
}

#[test]
fn trees_render_every_string() {
    let tree = json!({
        "graceSeconds": 30,
        "on": true,
        "name": "${{ object.metadata.name }}-fix",
        "replicas": "${{ object.spec.replicas }}",
        "list": ["${{ inputs.a }}", {"deep": ["x ${{ 1 + 1 }}"]}],
        "nothing": null,
        "escaped": "$${{ x }}",
    });
    let compiled = TemplateTree::compile(&tree, &scope()).unwrap();
    assert_eq!(compiled.variables().into_iter().collect::<Vec<_>>(), ["inputs", "object"]);
    assert_eq!(compiled.expressions().len(), 4);
    let rendered = compiled.render(&bindings(&sample()).with("inputs", json!({"a": [1]})));
    let expected = json!({
        "graceSeconds": 30,
        "on": true,
        "name": "web-fix",
        "replicas": 3,
        "list": [[1], {"deep": ["x 2"]}],
        "nothing": null,
        "escaped": "${{ x }}",
    });
    assert_eq!(rendered, Ok(expected));
}

#[test]
fn errors_in_trees_say_the_path() {
    let tree = json!({"a/b": ["ok", "${{ zebra }}"], "k${{ 1 }}": 1, "z": "${{ nope() }}"});
    let errors = TemplateTree::compile(&tree, &scope()).unwrap_err();
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "/k${{ 1 }}: a key cannot be a template",
            "/a~1b/1: unknown variable \"zebra\"",
            "/z: unknown function \"nope\"",
        ]
    );
    let tree: Value = json!({"a": [1, "${{ object.nope }}"]});
    let error = TemplateTree::compile(&tree, &scope()).unwrap().render(&bindings(&sample())).unwrap_err();
    assert_eq!(error.to_string(), "/a/1: object.nope is absent");
}
