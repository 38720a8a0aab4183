import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { exportedSources } from '../packages/folders.js';

/** Counts a package's sources, their lines of code, the names that its entries export, and its tests; nothing without a package. */
export function sizeOf(folder: string): Record<string, number> {
  if (!existsSync(join(folder, 'package.json'))) return {};
  const filesIn = (part: string): string[] => ts.sys.readDirectory(join(folder, part), ['.ts', '.js']);
  const tests = [...filesIn('src'), ...filesIn('test')].filter(isTest);
  const sources = [...filesIn('src'), ...filesIn('bin')].filter((path) => !isTest(path));
  return {
    files: sources.length,
    lines: sum(sources.map((path) => codeLines(parsed(path)))),
    names: sum(exportedSources(folder).map((path) => exportedNames(parsed(path)).length)),
    tests: sum(tests.map((path) => testCount(parsed(path)))),
  };
}

const isTest = (path: string): boolean => /\.(test|e2e)\.ts$/.test(path);
const sum = (numbers: readonly number[]): number => numbers.reduce((total, each) => total + each, 0);

/** Parses a source. */
export function parsed(path: string, text = readFileSync(path, 'utf8')): ts.SourceFile {
  return ts.createSourceFile(path, text, ts.ScriptTarget.Latest);
}

/** Counts the lines that hold more than blanks and comments. */
export function codeLines(source: ts.SourceFile): number {
  const lines = new Set<number>();
  const lineAt = (position: number): number => source.getLineAndCharacterOfPosition(position).line;
  const visit = (node: ts.Node): void => {
    if (ts.isJSDoc(node)) return;
    const parts = node.getChildren(source);
    if (parts.length > 0) parts.forEach(visit);
    else if (node.getWidth(source) > 0) {
      for (let line = lineAt(node.getStart(source)); line <= lineAt(node.getEnd()); line++) lines.add(line);
    }
  };
  visit(source);
  return lines.size;
}

/** The names that an entry lists or declares for others. */
export function exportedNames(source: ts.SourceFile): string[] {
  return source.statements.flatMap((statement) => {
    if (ts.isExportDeclaration(statement)) {
      const list = statement.exportClause;
      return list && ts.isNamedExports(list) ? list.elements.map(({ name }) => name.text) : [];
    }
    const modifiers = ts.canHaveModifiers(statement) ? (ts.getModifiers(statement) ?? []) : [];
    if (!modifiers.some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword)) return [];
    const declared = ts.isVariableStatement(statement) ? statement.declarationList.declarations : [statement];
    return declared.map((each) => (each as ts.NamedDeclaration).name?.getText(source) ?? 'default');
  });
}

/** The number of tests that a file writes; a table of cases is one. */
export function testCount(source: ts.SourceFile): number {
  let count = 0;
  const visit = (node: ts.Node): void => {
    if (ts.isExpressionStatement(node) && /^(it|test)\b/.test(node.getText(source))) count++;
    ts.forEachChild(node, visit);
  };
  visit(source);
  return count;
}
