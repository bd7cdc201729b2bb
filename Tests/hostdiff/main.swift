for mode in CodeMode.allCases {
    let g = FormGenerator.forms(mode)
    print(mode, g.ordered.count)
    for (r, n) in g.excluded { print(r.text, n.sorted()) }
    for f in g.ordered { print(f.name, f.templates.count) }
}
