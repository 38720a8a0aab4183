import * as core from '@peftjs/core';
import * as engine from '@peftjs/engine';
import * as models from '@peftjs/models';
import * as pipelines from '@peftjs/pipelines';
import * as tasks from '@peftjs/tasks';
import * as peftjs from 'peftjs';
import ts from 'typescript';
import { expect, it } from 'vitest';
import { filesBelow, isSource, textOf } from './repository.js';

const userPackages = { core, engine, models, pipelines, tasks };

/** What users can import, except plain words such as `train`, which a sentence may have for another reason. */
const importable = new Set(
  Object.values(userPackages)
    .flatMap((names) => Object.keys(names))
    .filter((name) => /[a-z][A-Z]/.test(name)),
);

/** The names of functions in the sentences of a source, which are its messages. */
function mentionedIn(path: string): string[] {
  const texts: string[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) return;
    if (ts.isStringLiteralLike(node) || ts.isTemplateHead(node) || ts.isTemplateMiddleOrTemplateTail(node)) {
      texts.push(node.text);
    }
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile('source.ts', textOf(path), ts.ScriptTarget.Latest));
  return texts
    .filter((text) => text.includes(' '))
    .flatMap((text) => text.split(/\W+/))
    .filter((word) => importable.has(word));
}

it('peftjs exports every function that a message of the packages names', () => {
  const sources = Object.keys(userPackages)
    .flatMap((name) => filesBelow(`packages/${name}/src`))
    .filter(isSource);
  const mentioned = new Set(sources.flatMap(mentionedIn));
  expect(mentioned).toContain('fullPrecision');
  expect([...mentioned].filter((name) => !(name in peftjs)).sort()).toEqual([]);
});

it('peftjs exports what programs of several steps needed', () => {
  const needed = ['checkOnnx', 'createDataSet', 'fullPrecision', 'hotswapAdapter', 'mergeAdapter', 'readTable'];
  expect(Object.keys(peftjs)).toEqual(expect.arrayContaining(needed));
});
