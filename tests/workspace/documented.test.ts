import { join } from 'node:path';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';
import { packages, root, type Package } from './repository.js';

/** The sources of a package's entries. */
function entriesOf({ folder, manifest }: Package): string[] {
  return Object.values(manifest.exports).flatMap((target) =>
    typeof target === 'string' ? [] : [join('packages', folder, target['@peftjs/source'])],
  );
}

const entries = packages.flatMap(entriesOf);

interface Exported {
  /** The exported names, with the file that declares each. */
  readonly names: readonly string[];
  /** Exported names without a doc comment. */
  readonly undocumented: readonly string[];
}

/** The exported names of each file. */
function exportsOf(files: readonly string[], host?: ts.CompilerHost): Record<string, Exported> {
  const options: ts.CompilerOptions = {
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    customConditions: ['@peftjs/source'],
    noLib: true,
    types: [],
  };
  const program = ts.createProgram({ rootNames: [...files], options, ...(host && { host }) });
  const checker = program.getTypeChecker();
  const of = (file: string): Exported => {
    const source = program.getSourceFile(file);
    const module = source && checker.getSymbolAtLocation(source);
    if (!module) return { names: [], undocumented: ['(nothing is exported)'] };
    const symbols = checker
      .getExportsOfModule(module)
      .map((symbol) => (symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol));
    return {
      names: symbols.map(
        ({ name, declarations }) => `${name} of ${declarations?.[0]?.getSourceFile().fileName ?? file}`,
      ),
      undocumented: symbols
        .filter((symbol) => symbol.getDocumentationComment(checker).length === 0)
        .map(({ name }) => name),
    };
  };
  return Object.fromEntries(files.map((file) => [file, of(file)]));
}

const exported = exportsOf(entries.map((entry) => join(root, entry)));

describe('all exports of a package are documented', () => {
  it.each(entries)('%s', (entry) => {
    expect(exported[join(root, entry)]?.undocumented).toEqual([]);
  });

  it('an undocumented export would be found', () => {
    const text = '/** Said. */ export const said = 1; export const unsaid = 2; export interface Silent {}';
    const host = ts.createCompilerHost({});
    host.getSourceFile = (name, target) => ts.createSourceFile(name, name === 'plant.ts' ? text : '', target);
    expect(exportsOf(['plant.ts'], host)['plant.ts']?.undocumented).toEqual(['unsaid', 'Silent']);
  });
});

it.each([
  ['index', 60],
  ['method', 120],
])("core's entry %s has at most %i names", (entry, most) => {
  expect(exported[join(root, `packages/core/src/${entry}.ts`)]?.names.length).toBeLessThanOrEqual(most);
});

it.each(packages)('$manifest.name exports nothing from two entries', (one) => {
  const names = entriesOf(one).flatMap((entry) => exported[join(root, entry)]?.names ?? []);
  expect(names.filter((name, index) => names.indexOf(name) !== index)).toEqual([]);
});
