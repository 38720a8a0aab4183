import type { DefaultTheme } from 'vitepress';

/** The site's search: ranks guides and methods first, and the API last. */
export const search = {
  provider: 'local',
  options: {
    // Indexes only the name and description of an export: tables of options contain the words of every guide.
    _render: (source, env, markdown) => {
      const html = markdown.render(source, env);
      const { relativePath = '' } = env as { relativePath?: string };
      return relativePath.startsWith('reference/api/') ? (html.split('<h2', 1)[0] ?? '') : html;
    },
    miniSearch: {
      // VitePress copies this function's source into the page, so it cannot use anything else of this file.
      searchOptions: {
        boostDocument: (id: string) =>
          /\/reference\/api\//.test(id) ? 0.05 : /\/(?:benchmarks|contributing)\//.test(id) ? 0.5 : 1,
      },
    },
  },
} satisfies DefaultTheme.Config['search'];
