import { createTree } from '@nx/devkit/testing';
import { describe, expect, it } from 'vitest';
import { methodNames } from './names.js';

describe('the name of a new method', () => {
  const tree = createTree();
  tree.write(
    'packages/baselines/package.json',
    '{ "name": "@peftjs/baselines", "peft": { "methods": { "ia3": "ia3" } } }',
  );
  tree.write('docs/package.json', '{ "name": "@peftjs/docs" }');
  tree.write('docs/methods/controls.md', '# Controls');

  it('gives those of its export and its types', () => {
    expect(methodNames(tree, 'my-method-2')).toEqual({
      name: 'my-method-2',
      exportName: 'myMethod2',
      typeName: 'MyMethod2',
    });
  });

  it.each([
    [
      'MyMethod',
      "'MyMethod' is no name for a method; use lower-case letters, digits and single hyphens, e.g. 'my-method'",
    ],
    ['../up', "'../up' is no name"],
    ['two words', "'two words' is no name"],
    ['2nd', "'2nd' is no name"],
    ['a--b', "'a--b' is no name"],
    ['', "'' is no name"],
    ['class', "'class' is a word of JavaScript and cannot be exported; choose another name"],
    ['await', "'await' is a word of JavaScript"],
    ['interface', "'interface' is a word of JavaScript"],
    ['baselines', "'baselines' is taken by packages/baselines; choose another name"],
    ['ia3', "'ia3' is taken by a method of packages/baselines; choose another name"],
    ['docs', "'docs' is taken by docs; choose another name"],
    ['controls', "'controls' is taken by docs/methods/controls.md; choose another name"],
  ])("is refused in one line: '%s'", (name, message) => {
    const refused = (): unknown => methodNames(tree, name);
    expect(refused).toThrow(message);
    expect(refused).not.toThrow('\n');
  });
});
