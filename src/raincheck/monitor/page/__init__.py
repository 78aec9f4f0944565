"""What a person sees in a browser instead of JSON: a page, or a part of one.

`document` writes whole pages, `fragments` parts for htmx and Turbo, `texts` has the words in some
languages; `page.html`, `page.css` and `page.js` are what each page is made of.
"""
