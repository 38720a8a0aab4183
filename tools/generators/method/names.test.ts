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

  it('determines the names of its export and its types', () => {
    expect(methodNames(tree, 'my-method-2')).toEqual({
      name: 'my-method-2',
      exportName: 'myMethod2',
      typeName: 'MyMethod2',
    });
  });

  it.each([
    [
      'MyMethod',
      "'MyMethod' is not a valid method name; use lower-case letters, digits and single hyphens, e.g. 'my-method'",
    ],
    ['../up', "'../up' is not a valid method name"],
    ['two words', "'two words' is not a valid method name"],
    ['2nd', "'2nd' is not a valid method name"],
    ['a--b', "'a--b' is not a valid method name"],
    ['', "'' is not a valid method name"],
    ['class', "'class' is a reserved word of JavaScript and cannot be exported; choose another name"],
    ['await', "'await' is a reserved word of JavaScript"],
    ['interface', "'interface' is a reserved word of JavaScript"],
    ['baselines', "'baselines' is already used by packages/baselines; choose another name"],
    ['ia3', "'ia3' is already used by a method of packages/baselines; choose another name"],
    ['docs', "'docs' is already used by docs; choose another name"],
    ['controls', "'controls' is already used by docs/methods/controls.md; choose another name"],
  ])("is refused in one line: '%s'", (name, message) => {
    const refused = (): unknown => methodNames(tree, name);
    expect(refused).toThrow(message);
    expect(refused).not.toThrow('\n');
  });
});
