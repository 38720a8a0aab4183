import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join, relative, resolve, sep } from 'node:path';
import ts from 'typescript';
import { PeftError } from '../../packages/core/src/errors.js'; // the source: no package is built yet
import { exportedSources } from './folders.js';

/**
 * Writes the declarations of everything that packages export, with maps to the sources, which a package holds. One
 * program for all takes a sixth of the time of one for each. It does not check types: that is what `npm run lint` does.
 * @throws PeftError if the compiler cannot write them.
 */
export function writeDeclarations(folders: readonly string[]): void {
  const entries = folders.flatMap(exportedSources);
  const file = ts.readConfigFile('tsconfig.json', (path) => ts.sys.readFile(path));
  const { options } = ts.parseJsonConfigFileContent(file.config, ts.sys, '.', {
    noEmit: false,
    emitDeclarationOnly: true,
    declarationMap: true,
    noCheck: true,
  });
  const sources = folders.map((folder) => resolve(folder, 'src') + sep);
  const program = ts.createProgram(entries, options);
  const { diagnostics } = program.emit(undefined, (path, text) => {
    const folder = sources.find((each) => resolve(path).startsWith(each));
    if (folder === undefined) return; // a package that others need
    const target = join(folder, '../dist', relative(folder, path));
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(target, path.endsWith('.map') ? withSources(text, dirname(path), dirname(target)) : text);
  });
  if (diagnostics.length > 0) {
    throw new PeftError('PEFT_BUILD', ts.formatDiagnostics(diagnostics, ts.createCompilerHost(options)));
  }
}

/** A source map that moves from one folder to another, without its sources. */
function withSources(text: string, from: string, to: string): string {
  const map = JSON.parse(text) as { sources: string[] };
  return JSON.stringify({ ...map, sources: map.sources.map((source) => relative(to, resolve(from, source))) });
}
