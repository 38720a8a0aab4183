import { join } from 'node:path';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';
import { packages, root } from './repository.js';

const entries = packages.flatMap(({ folder, manifest }) =>
  Object.values(manifest.exports).flatMap((target) =>
    typeof target === 'string' ? [] : [join('packages', folder, target['@peftjs/source'])],
  ),
);

/** The exported names of each file that have no documentation comment. */
function undocumented(files: readonly string[], host?: ts.CompilerHost): Record<string, string[]> {
  const options: ts.CompilerOptions = {
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    customConditions: ['@peftjs/source'],
    noLib: true,
    types: [],
  };
  const program = ts.createProgram({ rootNames: [...files], options, ...(host && { host }) });
  const checker = program.getTypeChecker();
  const namesIn = (file: string): string[] => {
    const source = program.getSourceFile(file);
    const module = source && checker.getSymbolAtLocation(source);
    if (!module) return ['(nothing is exported)'];
    return checker
      .getExportsOfModule(module)
      .map((symbol) => (symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol))
      .filter((symbol) => symbol.getDocumentationComment(checker).length === 0)
      .map((symbol) => symbol.name);
  };
  return Object.fromEntries(files.map((file) => [file, namesIn(file)]));
}

describe('what a package exports is documented', () => {
  const missing = undocumented(entries.map((entry) => join(root, entry)));

  it.each(entries)('%s', (entry) => {
    expect(missing[join(root, entry)]).toEqual([]);
  });

  it('and a bare export would be found', () => {
    const text = '/** Said. */ export const said = 1; export const unsaid = 2; export interface Silent {}';
    const host = ts.createCompilerHost({});
    host.getSourceFile = (name, target) => ts.createSourceFile(name, name === 'plant.ts' ? text : '', target);
    expect(undocumented(['plant.ts'], host)).toEqual({ 'plant.ts': ['unsaid', 'Silent'] });
  });
});
