import { builtinModules } from 'node:module';

/** A rule that reports every node that a selector matches. */
const forbids = (selectors, message) => ({
  create: (context) =>
    Object.fromEntries(selectors.map((selector) => [selector, (node) => context.report({ node, message })])),
});

const builtin = builtinModules.join('|').replaceAll('/', '\\u002F');

/** Rules of this repository, for oxlint. */
export default {
  meta: { name: 'house' },
  rules: {
    'named-exports': forbids(
      ['ExportDefaultDeclaration', 'ExportAllDeclaration'],
      'Export by name, and list the exported names.',
    ),
    'typed-errors': forbids(
      ['NewExpression[callee.name=/^(Error|TypeError|RangeError|SyntaxError)$/]'],
      'Throw a PeftError with a stable code: expected what, got what, do what.',
    ),
    'no-node': forbids(
      [`ImportDeclaration[importKind!="type"][source.value=/^(node:.*|${builtin})$/]`],
      'This package runs in a browser: take an injected reader, or a guarded dynamic import.',
    ),
    'no-console': forbids(['Identifier[name="console"]'], 'Only the command line prints.'),
  },
};
