import ts from 'typescript';
import { describe, expect, it } from 'vitest';
import { filesBelow, isSource, packages, textOf } from './repository.js';

const methodPackages = packages.filter(({ manifest }) => manifest.peft?.methods).map(({ manifest }) => manifest.name);

/** `head` is also a part of every model, and `full` the size of a preset. */
const WORDS: readonly string[] = ['head', 'full'];
const methodNames = packages
  .flatMap(({ manifest }) => Object.keys(manifest.peft?.methods ?? {}))
  .filter((name) => !WORDS.includes(name));

/** LoRA's file format is the exchange format of every low-rank method, so its writer may name it. */
const formatHelper = /^packages\/core\/src\/(?:.*\/)?lora-[a-z-]+\.ts$/;

/** The method names in the strings of a source, as whole words. */
function namesIn(text: string): string[] {
  const literals: string[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isStringLiteralLike(node) || ts.isTemplateHead(node) || ts.isTemplateMiddleOrTemplateTail(node)) {
      literals.push(node.text);
    }
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile('source.ts', text, ts.ScriptTarget.Latest));
  const words = literals.flatMap((literal) => [literal, ...literal.split(/[^\w@/]+/)]);
  const forbidden = new Set([...methodPackages, ...methodNames, ...methodNames.map((name) => name.toUpperCase())]);
  return [...new Set(words.filter((word) => forbidden.has(word)))];
}

const sharedSources = ['core', 'engine', 'pipelines', 'bench']
  .flatMap((name) => filesBelow(`packages/${name}/src`))
  .filter(isSource);

describe('shared code names no method', () => {
  it.each(sharedSources)('%s', (path) => {
    const allowed = formatHelper.test(path) ? ['LORA'] : [];
    expect(namesIn(textOf(path)).filter((name) => !allowed.includes(name))).toEqual([]);
  });

  it('a name in a string, a template or an import would be found', () => {
    expect(namesIn(`const m = 'lora';`)).toEqual(['lora']);
    expect(namesIn('const m = `--method ${x},sora`;')).toEqual(['sora']);
    expect(namesIn(`import { adalora } from '@peftjs/adalora';`)).toEqual(['@peftjs/adalora']);
    expect(namesIn(`if (peftType === 'ADALORA') go();`)).toEqual(['ADALORA']);
    expect(namesIn(`const key = 'lora_A.weight'; // lora`)).toEqual([]);
  });
});
