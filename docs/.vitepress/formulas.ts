import { katex } from '@mdit/plugin-katex';
import type { MarkdownRenderer } from 'vitepress';

/**
 * Typesets `$...$` in a line and `$$...$$` in a block, the syntax of GitHub. Vue does not interpolate the result.
 * @throws SyntaxError if a formula is invalid, which fails the build
 */
export function typesetFormulas(md: MarkdownRenderer): void {
  // The plugin and VitePress import markdown-it's types from different packages.
  katex(md as never, {
    throwOnError: true,
    transformer: (html) => {
      if (html.includes('katex-error')) throw new SyntaxError(`invalid formula: ${html}`);
      return html.replace(/^<\w+/, '$& v-pre');
    },
  });
}
