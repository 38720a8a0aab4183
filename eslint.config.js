import js from '@eslint/js';
import { defineConfig } from 'eslint/config';
import { builtinModules } from 'node:module';
import tseslint from 'typescript-eslint';

const sources = 'packages/*/src/**/*.ts';
const tests = ['**/*.{test,e2e}.ts', 'packages/*/test/**/*.ts', 'tests/**/*.ts'];
/** Files whose readers ask for a default export, and declarations of packages that have one. */
const defaultExports = [
  '**/*.config.{js,ts}',
  'vitest.shared.ts',
  'docs/.vitepress/{config,theme/index}.ts',
  'tools/vitest/summary-reporter.ts',
  '**/*.d.ts',
];

const explicitNames = [
  { selector: 'ExportDefaultDeclaration', message: 'Export by name.' },
  { selector: 'ExportAllDeclaration', message: 'List the exported names.' },
];
const typedErrors = [
  {
    selector: 'NewExpression[callee.name=/^(Error|TypeError|RangeError|SyntaxError)$/]',
    message: 'Throw a PeftError with a stable code: expected what, got what, do what.',
  },
];
const silence = [{ selector: 'Identifier[name="console"]', message: 'Only the command line prints.' }];

const noNodeImports = {
  patterns: [
    {
      group: ['node:*', ...builtinModules],
      allowTypeImports: true,
      message: 'This package runs in a browser: take an injected reader, or a guarded dynamic import.',
    },
  ],
};

export default defineConfig(
  {
    ignores: [
      '**/dist/',
      '**/coverage/',
      '.nx/',
      'docs/.vitepress/cache/',
      'docs/public/lesson/',
      'results/',
      'tools/generators/**/files/',
    ],
  },
  js.configs.recommended,
  tseslint.configs.strictTypeChecked,
  {
    languageOptions: {
      parserOptions: { project: ['./tsconfig.json', './docs/tsconfig.json'], tsconfigRootDir: import.meta.dirname },
    },
    linterOptions: { reportUnusedDisableDirectives: 'error' },
    rules: {
      '@typescript-eslint/consistent-type-imports': ['error', { disallowTypeAnnotations: false }],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      '@typescript-eslint/no-unnecessary-condition': [
        'error',
        { allowConstantLoopConditions: 'only-allowed-literals' },
      ],
      // What inference would give is not always the default that the rule compares with.
      '@typescript-eslint/no-unnecessary-type-arguments': 'off',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', ignoreRestSiblings: true }],
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      '@typescript-eslint/triple-slash-reference': ['error', { lib: 'never', path: 'always', types: 'never' }],
      // Our interfaces are records of functions; none of them reads `this`.
      '@typescript-eslint/unbound-method': 'off',
      eqeqeq: ['error', 'always', { null: 'ignore' }],
      'max-lines': ['error', { max: 400, skipBlankLines: true, skipComments: true }],
      'max-lines-per-function': ['error', { max: 80, skipBlankLines: true, skipComments: true }],
      'no-restricted-syntax': ['error', ...explicitNames],
    },
  },
  {
    files: [sources],
    rules: { 'no-restricted-syntax': ['error', ...explicitNames, ...typedErrors, ...silence] },
  },
  {
    files: [sources],
    ignores: ['packages/bench/**', 'packages/cli/**'],
    rules: { '@typescript-eslint/no-restricted-imports': ['error', noNodeImports] },
  },
  {
    // The one way out for warnings: `onWarning` replaces it.
    files: ['packages/core/src/config.ts'],
    rules: { 'no-restricted-syntax': ['error', ...explicitNames, ...typedErrors] },
  },
  {
    files: ['packages/bench/src/**/*.ts', 'packages/cli/src/**/*.ts'],
    rules: { 'no-restricted-syntax': ['error', ...explicitNames, ...typedErrors] },
  },
  {
    files: tests,
    rules: {
      '@typescript-eslint/no-restricted-imports': 'off',
      // A `describe` is a function, too.
      'max-lines-per-function': 'off',
      'no-restricted-syntax': ['error', ...explicitNames],
    },
  },
  { files: defaultExports, rules: { 'no-restricted-syntax': 'off' } },
  {
    files: ['**/*.{js,cjs,mjs}'],
    extends: [tseslint.configs.disableTypeChecked],
    languageOptions: { globals: { console: 'readonly', process: 'readonly', URL: 'readonly', module: 'writable' } },
  },
  {
    files: ['**/*.cjs'],
    languageOptions: { globals: { require: 'readonly', __dirname: 'readonly', __filename: 'readonly' } },
    rules: { '@typescript-eslint/no-require-imports': 'off' },
  },
);
