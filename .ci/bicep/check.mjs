// node check.mjs FILE…: parses Bicep files, and looks whether every name is declared and every module gets its parameters,
// no more and no fewer. Prints FILE:LINE:COLUMN and what is wrong; exit status 1 if something was.
//
// Bicep's compiler is in none of the registries; the grammar is the one that editors use. Types of Azure's resources are
// not checked here.
import {existsSync, readFileSync} from 'node:fs'
import {createRequire} from 'node:module'
import {dirname, join} from 'node:path'
import {Language, Parser} from 'web-tree-sitter'

const find = createRequire(import.meta.url)
await Parser.init()
const parser = new Parser()
parser.setLanguage(await Language.load(find.resolve('tree-sitter-bicep/tree-sitter-bicep.wasm')))

// Bicep's functions that are used here, and what it declares by itself.
const known = new Set(('base64 cidrHost concat empty guid join length loadTextContent map minLength maxLength minValue maxValue ' +
	'batchSize secure description range reduce replace resourceGroup resourceId string').split(' '))
const declares = ['parameter_declaration', 'variable_declaration', 'resource_declaration', 'module_declaration', 'output_declaration']

let wrong = 0
function complain(file, node, what) {
	wrong++
	console.log(`${file}:${node.startPosition.row + 1}:${node.startPosition.column + 1}: ${what}`)
}

export function parse(file) { return parser.parse(readFileSync(file, 'utf8')).rootNode }

const named = (node) => node.namedChildren.filter((c) => c.type !== 'decorators' && c.type !== 'comment')
const key = (property) => property.namedChildren[0].text
const below = (node, type) => node.descendantsOfType(type)

// broken reports what the grammar does not understand.
function broken(file, node) {
	if (node.isMissing) complain(file, node, `${node.type} is missing`)
	else if (node.isError) complain(file, node, `cannot be understood: ${JSON.stringify(node.text.slice(0, 60))}`)
	else for (const child of node.children) broken(file, child)
}

// parameters returns what a file takes: name → whether it has a default.
function parameters(root) {
	return new Map(root.namedChildren.filter((d) => d.type === 'parameter_declaration')
		.map((d) => [below(d, 'identifier').find((i) => i.parent.equals(d)).text, d.children.some((c) => c.type === '=')]))
}

// undeclared reports names that nothing declares. Keys of objects and members are not names.
function undeclared(file, root) {
	const names = new Set(known)
	for (const type of declares) for (const d of below(root, type)) names.add(named(d)[0].text)
	for (const type of ['for_loop_parameters', 'for_statement', 'lambda_expression']) {
		for (const l of below(root, type)) for (const id of below(l.namedChildren[0], 'identifier').concat(l.namedChildren[0])) names.add(id.text)
	}
	for (const id of below(root, 'identifier')) {
		if (id.parent.type === 'object_property' && id.equals(id.parent.namedChildren[0])) continue
		if (!names.has(id.text)) complain(file, id, `${id.text} is not declared`)
	}
}

// modules compares what modules are given with what they take.
function modules(file, root) {
	for (const m of below(root, 'module_declaration')) {
		const path = join(dirname(file), named(m)[1].text.replaceAll("'", ''))
		if (!existsSync(path)) { complain(file, m, `${path} is not there`); continue }
		const takes = parameters(parse(path))
		const body = below(m, 'object_property').find((p) => key(p) === 'params')
		const given = body ? named(body.namedChildren[1]).filter((p) => p.type === 'object_property') : []
		for (const p of given) if (!takes.has(key(p))) complain(file, p, `${path} takes no ${key(p)}`)
		for (const [name, optional] of takes) {
			if (!optional && !given.some((p) => key(p) === name)) complain(file, m, `${path} wants ${name}`)
		}
	}
}

const files = process.argv.slice(2)
for (const file of files) {
	const root = parse(file)
	const before = wrong
	broken(file, root)
	if (wrong > before) continue // the rest would follow from it
	undeclared(file, root)
	modules(file, root)
}
console.log(`${files.length} files, ${wrong} mistakes`)
process.exitCode = wrong > 0 ? 1 : 0
